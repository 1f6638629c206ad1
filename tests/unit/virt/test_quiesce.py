# SPDX-License-Identifier: Apache-2.0
"""Freezing and thawing, with an agent that fails in each way."""

import dataclasses

import pytest

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.virt.libvirt import domain_xml, quiesce
from tests.unit.virt import doubles

CHANNEL = "<channel><target name='org.qemu.guest_agent.0' state='connected'/></channel>"


def agent_error(operation: str) -> exception.AgentError:
    return exception.AgentError(domain=doubles.NAME, operation=operation, reason="no answer")


def silence() -> exception.AgentError:
    return exception.AgentUnresponsive(domain=doubles.NAME, operation="answer", reason="late")


@pytest.fixture
def guest():
    return doubles.FakeGuest()


@pytest.fixture
def quiescer(conf):
    conf.set_override("thaw_timeout", 1, "libvirt")
    conf.set_override("agent_timeout", 3, "libvirt")
    return quiesce.Quiescer(conf, doubles.NEW)


@pytest.mark.parametrize(
    ("properties", "has_agent", "required"),
    [
        ({}, False, False),
        ({"hw_qemu_guest_agent": "yes"}, True, False),
        ({"hw_qemu_guest_agent": "True", "os_require_quiesce": "true"}, True, True),
        ({"hw_qemu_guest_agent": "no", "os_require_quiesce": "1"}, False, True),
        ({"hw_qemu_guest_agent": "perhaps"}, False, False),
    ],
)
def test_policy(properties, has_agent, required):
    assert quiesce.Policy.from_properties(properties) == quiesce.Policy(has_agent, required)


class TestDecision:
    """Made before any work: whether to freeze."""

    domain = domain_xml.parse(
        f"<domain><name>web</name><uuid>{doubles.UUID}</uuid><devices>{CHANNEL}</devices></domain>",
        "web",
    )
    without_channel = dataclasses.replace(domain, agent_channel=None)
    without_agent = dataclasses.replace(domain, agent_channel="disconnected")

    @pytest.mark.parametrize("required", [False, True])
    def test_possible(self, required):
        policy = quiesce.Policy(True, required)
        assert quiesce.can_quiesce(policy, power_state.RUNNING, self.domain)

    @pytest.mark.parametrize("required", [False, True])
    def test_shut_off_needs_none(self, required):
        policy = quiesce.Policy(True, required)
        assert not quiesce.can_quiesce(policy, power_state.SHUTDOWN, self.without_agent)

    @pytest.mark.parametrize(
        ("has_agent", "state", "domain", "reason"),
        [
            (False, power_state.RUNNING, domain, "hw_qemu_guest_agent"),
            (True, power_state.PAUSED, domain, "it is paused"),
            (True, power_state.RUNNING, without_channel, "no channel"),
            (True, power_state.RUNNING, without_agent, "no agent in the guest"),
        ],
        ids=["no-property", "paused", "no-channel", "no-agent"],
    )
    def test_impossible(self, has_agent, state, domain, reason, caplog):
        assert not quiesce.can_quiesce(quiesce.Policy(has_agent, False), state, domain)
        # Nobody is warned of the lack of what was never promised.
        assert (reason in caplog.text) == has_agent
        with pytest.raises(exception.QuiesceUnsupported) as caught:
            quiesce.can_quiesce(quiesce.Policy(has_agent, True), state, domain)
        assert reason in caught.value.reason


class TestFrozen:
    """The freeze around the point in time."""

    def test_good(self, quiescer, guest):
        notes = []
        guest.before["freeze"] = lambda: notes.append("freezes")
        with quiescer.frozen(guest, True, notes.append) as frozen:
            assert frozen
            assert guest.frozen
            assert notes == [True, "freezes"]
            assert guest.agent_timeouts == [3]
        assert not guest.frozen
        assert notes == [True, "freezes", False]
        # Other users of the domain get their own limit back.
        assert guest.agent_timeouts == [3, None]

    def test_old_libvirt_has_no_limit_of_its_own(self, conf, guest):
        with quiesce.Quiescer(conf, doubles.OLD).frozen(guest, required=True):
            assert guest.frozen
        assert guest.agent_timeouts == []

    def test_thawed_when_the_work_fails(self, quiescer, guest):
        with pytest.raises(ZeroDivisionError), quiescer.frozen(guest, required=True):
            raise ZeroDivisionError
        assert not guest.frozen

    def test_failed_freeze_is_followed_by_a_thaw(self, quiescer, guest, caplog):
        """The agent may have frozen the guest and been late with its answer."""
        guest.errors["freeze"] = agent_error("freeze")
        guest.frozen = True
        with quiescer.frozen(guest, required=False) as frozen:
            assert not frozen
        assert not guest.frozen
        assert "without a freeze" in caplog.text

    def test_failed_freeze_that_is_required(self, quiescer, guest):
        guest.errors["freeze"] = agent_error("freeze")
        with (
            pytest.raises(exception.AgentError, match="failed to freeze"),
            quiescer.frozen(guest, required=True),
        ):
            pytest.fail("went on without a freeze")
        assert guest.calls[-2:] == ["thaw", "set_agent_timeout"]

    def test_thaw_is_tried_again(self, quiescer, guest):
        guest.errors["thaw"] = [agent_error("thaw")]
        with quiescer.frozen(guest, required=True):
            pass
        assert not guest.frozen
        assert guest.calls.count("thaw") == 2

    def test_thaw_is_tried_again_when_libvirt_is_started_again(self, quiescer, guest):
        lost = exception.HypervisorUnavailable(uri="qemu:///system", reason="gone")
        guest.errors["thaw"] = [lost]
        guest.errors["is_active"] = [lost]
        with quiescer.frozen(guest, required=True):
            pass
        assert not guest.frozen

    @pytest.mark.parametrize("freeze_fails", [False, True])
    def test_frozen_for_good_is_an_error(self, quiescer, guest, caplog, freeze_fails):
        notes = []
        guest.errors["thaw"] = agent_error("thaw")
        if freeze_fails:
            guest.errors["freeze"] = agent_error("freeze")
        with (
            pytest.raises(exception.AgentError, match="failed to thaw"),
            quiescer.frozen(guest, False, notes.append),
        ):
            pass
        assert notes == [True]
        assert f"MAY BE FROZEN. Thaw it with: virsh domfsthaw {guest.name}" in caplog.text
        assert guest.calls.count("thaw") >= 2

    def test_agent_that_hangs_is_not_told_to_freeze(self, quiescer, guest, caplog):
        """It would do so when it wakes up, and nobody would be there to thaw."""
        guest.errors["ask_agent_for_time"] = silence()
        notes = []
        with quiescer.frozen(guest, False, notes.append) as frozen:
            assert not frozen
        assert "freeze" not in guest.calls
        assert "without a freeze" in caplog.text
        assert notes == []

    def test_agent_that_hangs_but_is_required(self, quiescer, guest):
        guest.errors["ask_agent_for_time"] = silence()
        with (
            pytest.raises(exception.AgentUnresponsive),
            quiescer.frozen(guest, required=True),
        ):
            pytest.fail("went on without a freeze")
        assert "freeze" not in guest.calls

    def test_agent_that_does_not_tell_the_time_may_freeze(self, quiescer, guest):
        guest.errors["ask_agent_for_time"] = agent_error("answer")
        with quiescer.frozen(guest, required=True) as frozen:
            assert frozen

    @pytest.mark.parametrize("gone", [False, True], ids=["stopped", "undefined"])
    def test_guest_that_stops_is_not_frozen(self, quiescer, guest, gone):
        with quiescer.frozen(guest, required=True):
            guest.stop()
            not_found = exception.DomainNotFound(domain=guest.name)
            guest.errors["thaw"] = not_found if gone else agent_error("thaw")
        assert guest.calls.count("thaw") == 1

    def test_limit_that_cannot_be_set_is_only_a_warning(self, quiescer, guest, caplog):
        guest.errors["set_agent_timeout"] = doubles.failed("agentSetResponseTimeout")
        with quiescer.frozen(guest, required=True) as frozen:
            assert frozen
        assert "keeps its old time limit" in caplog.text
