# SPDX-License-Identifier: Apache-2.0
"""Tempest's own tests, unmodified, against the cloud of :mod:`tests.fixtures.cloud`.

``scope.txt``
    what of Tempest is about things that nova_snap does: regular expressions.
``excluded.txt``
    what of that is left out, each with the reason.
``passing.txt``
    every test that is then left. A run is good if these have run and passed, and no other.
``short.txt``
    those of them that ``tools/test`` runs; ``tox -e tempest`` runs all.
"""
