# SPDX-License-Identifier: Apache-2.0
"""Requests at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor

from tests.functional.api import service as svc
from tests.functional.api.service import Service

REQUESTS = 4


def test_of_requests_at_the_same_time_one_is_accepted(service: Service) -> None:
    """Each has passed the check of the state before any of them claims the instance."""
    together = threading.Barrier(REQUESTS, timeout=30)
    create = service.images.create

    def create_when_all_are_here(*arguments, **named):  # type: ignore[no-untyped-def]
        together.wait()
        return create(*arguments, **named)

    service.images.create = create_when_all_are_here  # type: ignore[method-assign]
    with ThreadPoolExecutor(REQUESTS) as pool:
        answers = [
            pool.submit(service.create_image, svc.ACTIVE, f"snap-{number}", version="2.45")
            for number in range(REQUESTS)
        ]
        responses = [answer.result(60) for answer in answers]

    codes = sorted(response.status_int for response in responses)
    assert codes == [202] + [409] * (REQUESTS - 1)
    for response in responses:
        if response.status_int == 409:
            assert response.json["conflictingRequest"]["message"] == (
                f"Cannot 'createImage' instance {svc.ACTIVE} while it is in "
                "task_state image_snapshot_pending"
            )
    (winner,) = [each.json["image_id"] for each in responses if each.status_int == 202]
    assert list(service.images.records) == [winner]
    assert service.casts.sent == [(svc.ACTIVE, winner)]
    assert service.instance(svc.ACTIVE).snapshot_image_id == winner
