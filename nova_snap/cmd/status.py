# SPDX-License-Identifier: Apache-2.0
"""``nova-snap-status upgrade check``: is everything as this version needs it?"""

import sys

from oslo_config import cfg
from oslo_db import exception as db_exception
from oslo_upgradecheck import upgradecheck

import nova_snap.conf
from nova_snap.cmd import config
from nova_snap.conf import opts
from nova_snap.db import migration
from nova_snap.db.session import Database


class Checks(upgradecheck.UpgradeCommands):
    """What is checked, in this order."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        super().__init__()
        self._conf = conf

    def _check_database(self) -> upgradecheck.Result:
        """The database answers and its tables are of this version."""
        try:
            database = Database(self._conf)
            found = migration.current(database)
        except (db_exception.DBError, OSError) as error:
            return upgradecheck.Result(
                upgradecheck.Code.FAILURE, f"The database does not answer: {error}"
            )
        if found == migration.head():
            return upgradecheck.Result(upgradecheck.Code.SUCCESS)
        return upgradecheck.Result(
            upgradecheck.Code.FAILURE,
            f"The database has version {found}, this code needs {migration.head()}: "
            "run 'nova-snap-manage db sync'.",
        )

    def _check_service_user(self) -> upgradecheck.Result:
        """With Keystone, the service can vouch for tokens that expire while a snapshot lasts."""
        own = self._conf.service_user
        if self._conf.api.auth_strategy != "keystone" or (
            own.auth_type and own.send_service_user_token
        ):
            return upgradecheck.Result(upgradecheck.Code.SUCCESS)
        return upgradecheck.Result(
            upgradecheck.Code.WARNING,
            "A snapshot that lasts longer than its user's token is lost: set auth_type and what "
            "it needs in [service_user], and send_service_user_token to true.",
        )

    _upgrade_checks = (
        ("Database version", _check_database),
        ("Service user", _check_service_user),
    )


def main() -> int:
    """0 for success, 1 for warnings, 2 for failures, 255 for an error: oslo.upgradecheck's."""
    conf = cfg.CONF  # noqa: TID251
    nova_snap.conf.register_opts(conf)
    opts.set_lib_defaults()
    result: int = upgradecheck.main(
        conf,
        config.PROJECT,
        Checks(conf),
        argv=sys.argv[1:],
        default_config_files=config.default_files("nova-snap-status"),
    )
    return result
