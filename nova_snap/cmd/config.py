# SPDX-License-Identifier: Apache-2.0
"""The configuration of a process: the only place that touches oslo.config's global object.

oslo.messaging registers some of its options only there, so that it has to be this object that is
passed around.
"""

from collections.abc import Sequence
from typing import Any

import oslo_messaging.opts
from oslo_config import cfg
from oslo_log import log

from nova_snap import conf as nova_conf
from nova_snap.conf import opts

PROJECT = "nova_snap"

_LOG_LEVELS = ["alembic=WARNING", "glanceclient=WARNING"]


def load(
    argv: Sequence[str] | None,
    prog: str,
    *,
    cli_opts: Sequence[Any] = (),
    embedded: bool = False,
    config_files: Sequence[str] | None = None,
) -> cfg.ConfigOpts:
    """Read command line and files, and set logging up.

    :param argv: without the program's name; ``None`` for this process's own.
    :param prog: such as ``nova-snap-api``: /etc/nova_snap/nova-snap.conf and
        /etc/nova_snap/PROG.conf are read where they exist.
    :param cli_opts: options of this command only.
    :param embedded: messages stay in this process unless the configuration says otherwise.
    :param config_files: instead of those in /etc/nova_snap.
    :raises oslo_config.cfg.Error: if the configuration cannot be used.
    """
    conf = cfg.CONF  # noqa: TID251
    nova_conf.register_opts(conf)
    opts.set_lib_defaults()
    log.register_options(conf)
    log.set_defaults(default_log_levels=log.get_default_log_levels() + _LOG_LEVELS)
    if cli_opts:
        conf.register_cli_opts(cli_opts)
    if embedded:
        _keep_messages_here(conf)
    if config_files is None:
        config_files = default_files(prog)
    conf(argv, project=PROJECT, prog=prog, default_config_files=list(config_files))
    check(conf)
    if not (conf.log_file or conf.log_dir or conf.use_journal or conf.use_syslog):
        # What a command has to say goes to stdout; oslo.log would mix the log into it.
        conf.set_default("use_stderr", True)
    log.setup(conf, prog)
    return conf


def default_files(prog: str) -> list[str]:
    """The files that are read when the command line names none: those that exist."""
    names = ("nova-snap", prog)
    return [path for name in names for path in cfg.find_config_files(project=PROJECT, prog=name)]


def check(conf: cfg.ConfigOpts) -> None:
    """Read every option of nova_snap once: a value that cannot be used is best known at once.

    :raises oslo_config.cfg.Error: for the first such value.
    """
    for group, options in opts.list_own_opts():
        for option in options:
            getattr(conf if group == "DEFAULT" else conf[group], option.dest)


def _keep_messages_here(conf: cfg.ConfigOpts) -> None:
    for group, options in oslo_messaging.opts.list_opts():
        if group is None:
            conf.register_opts(options)
    conf.set_default("transport_url", "fake://")
