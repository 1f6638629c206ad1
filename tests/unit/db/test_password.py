# SPDX-License-Identifier: Apache-2.0
"""The password in ``[database] connection`` is in no log and in no error."""

import logging
import traceback

import pytest
import sqlalchemy as sa
from oslo_config import cfg
from oslo_db import exception as db_exception
from oslo_db import options as db_options

from nova_snap.db.session import Database
from tests.fixtures.service_process import free_port

PASSWORD = "password-of-the-database"


@pytest.mark.parametrize("driver", ["mysql+pymysql", "postgresql+psycopg2"])
def test_database_that_is_down(
    conf: cfg.ConfigOpts, driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    conf.register_opts(db_options.database_opts, group="database")
    url = f"{driver}://nova_snap:{PASSWORD}@127.0.0.1:{free_port()}/nova_snap"
    for name, value in {"connection": url, "max_retries": 0, "connection_debug": 100}.items():
        conf.set_override(name, value, "database")
    caplog.set_level(logging.DEBUG)
    with pytest.raises((db_exception.DBError, sa.exc.DBAPIError)) as caught:
        Database(conf).engine.connect()
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "refused" in told
    assert PASSWORD not in told
