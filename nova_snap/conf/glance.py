# SPDX-License-Identifier: Apache-2.0
"""Options of the image service."""

from typing import Any

from oslo_config import cfg, types

GROUP = cfg.OptGroup("glance", title="Image service")

OPTS = [
    cfg.ListOpt(
        "api_servers",
        default=[],
        help="""
Endpoints of the image service, without a version. With more than one, each try goes to the next.
The first of them is also what the Location header of a createImage names (microversions below
2.45). Without any, the endpoint comes from the catalog where [api] auth_strategy is keystone, and
is http://127.0.0.1:9292 otherwise.
""",
    ),
    cfg.URIOpt(
        "endpoint_override",
        schemes=["http", "https"],
        help="""
Endpoint of the image service, without a version. It is used when api_servers is empty, instead of
what the catalog says.
""",
    ),
    cfg.StrOpt(
        "service_type",
        default="image",
        help="""
Type of the image service in the catalog. Change it where your catalog has it under another.
""",
    ),
    cfg.StrOpt(
        "service_name",
        help="""
Name of the image service in the catalog. Set it when there is more than one of the type.
""",
    ),
    cfg.ListOpt(
        "valid_interfaces",
        default=["internal", "public"],
        item_type=types.String(choices=["internal", "public", "admin"]),
        help="""
Which interface of the image service's endpoints to use: the first of these that the catalog has.
""",
    ),
    cfg.StrOpt(
        "region_name",
        help="""
Region whose endpoint of the image service is used. Set it when the catalog has several regions.
""",
    ),
    cfg.IntOpt(
        "num_retries",
        default=3,
        min=0,
        help="""
How often a request to the image service is tried again after it could not connect, lost the
connection or got 503. An upload starts again from its first byte.
""",
    ),
    cfg.FloatOpt(
        "retry_interval",
        default=1.0,
        min=0.0,
        help="""
Seconds before the first new try; they double from try to try, up to 30.
""",
    ),
    cfg.IntOpt(
        "timeout",
        default=60,
        min=1,
        help="""
Seconds that the image service may take to accept a connection, to take a piece of data and to
answer. Raise it where the store behind it needs long to finish a large upload.
""",
    ),
    cfg.BoolOpt(
        "verify_uploads",
        default=True,
        help="""
Hash what is sent, and fail the snapshot if the image service says that it holds anything else
(os_hash_value). Switch it off to save the CPU time, the larger part of what an uncompressed
snapshot takes; the length is compared all the same.
""",
    ),
    cfg.StrOpt(
        "hash_algorithm",
        default="sha512",
        choices=["sha512", "sha384", "sha256", "sha224", "sha3_256", "sha3_512", "blake2b"],
        help="""
What verify_uploads hashes with. It has to be what [DEFAULT] hashing_algorithm of the image service
says, whose default is sha512, too: a hash of another kind cannot be compared, and fails the
snapshot.
""",
    ),
    cfg.BoolOpt(
        "insecure",
        default=False,
        help="""
Do not check the certificate of an https endpoint. Set it in tests only.
""",
    ),
    cfg.StrOpt(
        "cafile",
        help="""
File with the certificates of the authorities that an https endpoint may be signed by. Set it when
the image service uses an authority of your own.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options of this group known to ``conf``."""
    # A copy: oslo.config keeps overrides in the group, and configurations must not share them.
    conf.register_group(cfg.OptGroup(GROUP.name, GROUP.title))
    conf.register_opts(OPTS, group=GROUP.name)


def list_opts() -> list[tuple[str, list[Any]]]:
    """The group and its options, for the sample file."""
    return [(GROUP.name, OPTS)]
