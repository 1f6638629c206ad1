# SPDX-License-Identifier: Apache-2.0
"""The REST API for any WSGI server: ``gunicorn nova_snap.wsgi.api:application``.

See :mod:`nova_snap.wsgi.configuration` for where its configuration comes from.
"""

import os

from nova_snap.cmd import api
from nova_snap.wsgi import configuration

application = api.build_application(argv=[], config_files=configuration.config_files(os.environ))
