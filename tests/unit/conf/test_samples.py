# SPDX-License-Identifier: Apache-2.0
"""The samples in etc/ are what the generators make of the code."""

import pathlib
import subprocess
import sys

import pytest
from oslo_config import cfg

from nova_snap import conf as nova_conf

ROOT = pathlib.Path(__file__).parents[3]
ETC = ROOT / "etc" / "nova_snap"


@pytest.mark.parametrize(
    ("generator", "source", "sample", "how"),
    [
        pytest.param(
            "oslo-config-generator",
            "config-generator.conf",
            "nova-snap.conf.sample",
            "genconfig",
            id="config",
        ),
        pytest.param(
            "oslopolicy-sample-generator",
            "policy-generator.conf",
            "policy.yaml.sample",
            "genpolicy",
            id="policy",
        ),
    ],
)
def test_a_sample_is_current(
    tmp_path: pathlib.Path, generator: str, source: str, sample: str, how: str
) -> None:
    made = tmp_path / sample
    command = pathlib.Path(sys.executable).parent / generator
    subprocess.run(
        [command, "--config-file", ETC / source, "--output-file", made],
        check=True,
        cwd=ROOT,
        timeout=120,
    )
    assert made.read_text() == (ETC / sample).read_text(), f"run 'tox -e {how}'"


OPTIONS = [
    pytest.param(option, id=f"{group}.{option.name}")
    for module in nova_conf.MODULES
    for group, options in module.list_opts()
    for option in options
]


@pytest.mark.parametrize("option", OPTIONS)
def test_an_options_help_is_more_than_its_name(option: cfg.Opt) -> None:
    assert option.help is not None
    assert len(option.help.split()) >= 8


def test_registering_twice_does_no_harm() -> None:
    conf = cfg.ConfigOpts()
    nova_conf.register_opts(conf)
    nova_conf.register_opts(conf)
    conf([], default_config_files=[])
    assert conf.max_concurrent_snapshots == 5
