# SPDX-License-Identifier: Apache-2.0
"""Options of the libvirt driver."""

from typing import Any

from oslo_config import cfg

GROUP = cfg.OptGroup("libvirt", title="libvirt")

OPTS = [
    cfg.StrOpt(
        "connection_uri",
        default="qemu:///system",
        help="""
Which libvirt to use. qemu:///system is the host's own daemon, which Nova uses too. Change it for
another daemon, or for libvirt inside of this process (qemu:///embed?root=DIR), which must be the
only process that uses that directory.
""",
    ),
    cfg.StrOpt(
        "virt_type",
        default="kvm",
        choices=["kvm", "qemu", "lxc"],
        help="""
What kind of guests this host has. It must be what the domains' own type is; 'qemu' also serves
for domains of type kvm.
""",
    ),
    cfg.StrOpt(
        "snapshot_image_format",
        choices=[
            ("raw", "The disk's bytes, as long as the disk."),
            ("qcow2", "Only what is allocated; the safest container for the image service."),
            ("vmdk", "For other hypervisors."),
            ("vdi", "For other hypervisors."),
        ],
        help="""
Format of the images that snapshots become. Unset, an image has its disk's own format. Set it to
qcow2 where the disks are raw and the images should not have the disk's whole size.
""",
    ),
    cfg.StrOpt(
        "snapshot_method",
        default="auto",
        choices=[
            ("auto", "The best one for the guest's state and the host's libvirt."),
            (
                "mirror",
                "A block copy of the running guest's disk. A guest that is shut off is "
                "read where it lies.",
            ),
            ("managed_save", "The guest is saved to disk, its disk is read, and it is resumed."),
        ],
        help="""
How snapshots are taken. Leave it at auto, unless a method fails on your hosts.
""",
    ),
    cfg.StrOpt(
        "snapshots_directory",
        default="$state_path/snapshots",
        help="""
Where temporary files of snapshots are written. The file system needs room for the delta and for
the flat copy of each snapshot that runs at the same time: at worst twice the disks' sizes.
""",
    ),
    cfg.StrOpt(
        "snapshot_compression",
        default="none",
        choices=[
            ("none", "Clusters are stored as they are."),
            ("zlib", "Every cluster of a qcow2 image is compressed with zlib."),
        ],
        help="""
Whether qcow2 images are compressed while they are made. It takes much CPU time of the host and
saves space in the image service. Images of other formats are never compressed.
""",
    ),
    cfg.IntOpt(
        "block_copy_timeout",
        default=7200,
        min=1,
        help="""
Seconds that a block copy may take until the copy has caught up with the guest. A guest that
writes faster than the host's disk can copy never lets it: the snapshot fails then, and the guest
runs on.
""",
    ),
    cfg.IntOpt(
        "block_copy_bandwidth",
        default=0,
        min=0,
        help="""
MiB per second that a block copy may read of a guest's disk; 0 is no limit. Set it where snapshots
take too much of the disks' bandwidth from the guests, and high enough for a copy to catch up with
what its guest writes.
""",
    ),
    cfg.IntOpt(
        "qemu_img_timeout",
        default=7200,
        min=1,
        help="""
Seconds that one qemu-img convert may take. Raise it for disks so large that copying them takes
longer.
""",
    ),
    cfg.IntOpt(
        "operation_timeout",
        default=60,
        min=1,
        help="""
Seconds that a short libvirt operation may take, such as starting a block job or detaching a
device.
""",
    ),
    cfg.IntOpt(
        "managed_save_timeout",
        default=900,
        min=1,
        help="""
Seconds that saving a guest's memory to disk, or restoring it, may take. Raise it for guests with
much memory on slow disks.
""",
    ),
    cfg.IntOpt(
        "agent_timeout",
        default=10,
        min=1,
        help="""
Seconds that the guest's agent may take to answer, to freeze and to thaw. It bounds how long a
quiesce may hold the guest's writes up. Raise it where guests have very many file systems.
""",
    ),
    cfg.IntOpt(
        "thaw_timeout",
        default=120,
        min=1,
        help="""
Seconds for which thawing a guest is tried again, when its agent does not answer. An agent that
hangs may have frozen the guest all the same, so lower it only where a snapshot that fails late is
worse than a guest that stays frozen.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make the options of this group known to ``conf``."""
    # A group of its own: what is set in one configuration must not show in another.
    conf.register_group(cfg.OptGroup(GROUP.name, title=GROUP.title))
    conf.register_opts(OPTS, group=GROUP.name)


def list_opts() -> list[tuple[str, list[Any]]]:
    """The group and its options, for the sample file."""
    return [(GROUP.name, OPTS)]
