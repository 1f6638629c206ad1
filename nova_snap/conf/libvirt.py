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
        "cpu_mode",
        choices=[
            ("host-model", "What the host's CPU has, as libvirt knows it by name."),
            ("host-passthrough", "The host's CPU itself."),
            ("maximum", "All that the hypervisor can do."),
            ("none", "The hypervisor's own default."),
        ],
        help="""
The CPU of the instances that are made here. Unset, it is host-model for virt_type kvm, and maximum
for qemu.
""",
    ),
    cfg.IntOpt(
        "image_download_timeout",
        default=3600,
        min=1,
        help="""
Seconds that the download of an image for a new instance may take, or the wait for another instance
that downloads the same one. Raise it where images are large and the way to them is slow.
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
Format of the images that snapshots become. Unset, an image has its disk's own format, and is raw
for a logical volume, another block device or an RBD image. Set it to qcow2 where the disks are raw
and the images should not have the disk's whole size.
""",
    ),
    cfg.StrOpt(
        "snapshot_method",
        default="auto",
        choices=[
            ("auto", "The best one for the guest's state and the host's libvirt."),
            (
                "direct",
                "The storage cluster makes the image by itself: the disk is in Ceph RBD, and the "
                "image service keeps its images in the same cluster.",
            ),
            (
                "stream",
                "The disk as of the moment of the request, read once and sent while the guest "
                "goes on. Needs libvirt 7.2.",
            ),
            (
                "mirror",
                "A block copy of the running guest's disk. A guest that is shut off is "
                "read where it lies.",
            ),
            ("managed_save", "The guest is saved to disk, its disk is read, and it is resumed."),
        ],
        help="""
How snapshots are taken. Leave it at auto, unless a method fails on your hosts. Logical volumes,
other block devices and RBD images are never copied by mirror: it is managed_save for them.
""",
    ),
    cfg.StrOpt(
        "snapshot_encrypted_disks",
        default="refuse",
        choices=[
            ("refuse", "There are no snapshots of encrypted disks."),
            ("decrypt", "The image holds what the guest sees: it is not encrypted."),
        ],
        help="""
What a snapshot does with a disk that is encrypted on this host: a LUKS disk whose secret libvirt
has, or a logical volume that dm-crypt decrypts. No image is ever encrypted. Leave it at refuse
where the encryption is to protect the data from whoever operates the image service and its store,
too; with decrypt that is the image service's own affair. On this host, what a snapshot keeps of a
LUKS disk that it streams is encrypted with the disk's own secret; what managed_save, and the
formats vmdk and vdi, write into snapshots_directory is not.
""",
    ),
    cfg.BoolOpt(
        "snapshot_all_disks",
        default=False,
        help="""
Whether a snapshot is of all local disks of an instance at one instant, and not only of the root
disk. Each of them becomes an image of its own, named after the one that was asked for, such as
'nightly (vdb)', and tied to it by the property nova_snap_set. Local are the root disk, and what
Nova calls ephemeral disks and swap (disk.eph0, disk.swap); not taken are volumes, CDs, the config
drive, disks that are read-only, and disks that guests share. Set it where what an instance has on
its ephemeral disks is worth keeping. Every snapshot is then as large as all of the disks, and
counts as that many images against quotas. Where one disk cannot be taken, or not at the same
instant as the others (snapshot_method = mirror), none is.
""",
    ),
    cfg.StrOpt(
        "snapshot_direct_flatten",
        default="auto",
        choices=[
            ("auto", "By Ceph's manager; by this host where the manager refuses."),
            ("manager", "By Ceph's manager, through which all of the data pass then."),
            ("host", "By this host, through which all of the data pass then."),
            ("never", "Not at all."),
        ],
        help="""
By whom the image of a snapshot by method direct is made independent of the disk. Such an image is
a clone of a snapshot of the disk at first, and there in no time. Until it is flattened the disk
cannot be deleted, nor that snapshot of it. Set it to never where snapshots have to be done in a few
seconds whatever the disk's size, and images are deleted before their instances are: the disk's
snapshot goes then with the image, or with the next snapshot of the disk.
""",
    ),
    cfg.StrOpt(
        "snapshot_direct_pool",
        help="""
The pool that the image service keeps its images in (its rbd_store_pool). Set it where that cannot
be found out: from the image that the disk is a clone of, or from the location of the image that the
instance was made from, which the image service shows with show_multiple_locations or
show_image_direct_url.
""",
    ),
    cfg.IntOpt(
        "snapshot_direct_timeout",
        default=7200,
        min=1,
        help="""
Seconds that flattening the image of a snapshot by method direct may take. Raise it for large disks
in slow clusters.
""",
    ),
    cfg.StrOpt(
        "rbd_user",
        help="""
Whom this service is to Ceph, without 'client.'; its key is read from a keyring, which Ceph looks
for by this name. Unset, it is the user that the domain's XML names, or else Ceph's own default. It
needs the profile rbd in the pools of the disks and of the images, on the OSDs and on the managers.
""",
    ),
    cfg.StrOpt(
        "images_rbd_ceph_conf",
        default="",
        help="""
Ceph's configuration file. Unset, it is the file that the domain's XML names, or else Ceph's own
default with the monitors of the domain's XML.
""",
    ),
    cfg.IntOpt(
        "rbd_connect_timeout",
        default=5,
        min=1,
        help="""
Seconds that connecting to Ceph's monitors may take. Everything but flattening has to be done within
operation_timeout after that.
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
        "snapshot_socket_directory",
        default="",
        help="""
Where snapshots make their sockets, which a guest's disk is read through; empty for their own
directories in snapshots_directory. Set it to a shorter path when snapshots fail because the path
of a socket is too long, or to one that AppArmor or SELinux lets the hypervisor make sockets in. It
must exist, and the users that hypervisors run as must be able to enter it.
""",
    ),
    cfg.StrOpt(
        "snapshot_compression",
        default="none",
        choices=[
            ("auto", "With zstd, where a sample of the disk says that it pays."),
            ("none", "Clusters are stored as they are."),
            ("zlib", "With zlib, which every QEMU can read."),
            ("zstd", "With zstd, which is faster and smaller, and which QEMU can read since 5.1."),
        ],
        help="""
Whether the clusters of a qcow2 image are compressed. It takes CPU time of the host, and saves space
in the image service and the time to send it. Images of other formats are never compressed. The
methods mirror and managed_save know zlib only: auto is none to them, and zstd is zlib.
""",
    ),
    cfg.IntOpt(
        "snapshot_spool_memory",
        default=64,
        min=1,
        help="""
MiB of compressed data that a snapshot keeps in memory at its end. A compressed image is sent while
it is made, with its tables where a sample says that most of the data will have been sent; what is
left waits here until the tables are out, and what does not fit is stored as it is. Raise it where
compressed images of very large disks come out larger than they could be.
""",
    ),
    cfg.IntOpt(
        "snapshot_bandwidth",
        default=0,
        min=0,
        help="""
MiB per second that a snapshot may send; 0 is no limit. Set it where snapshots take too much of the
network, or of the disks, from the guests. The methods mirror and managed_save do not keep to it:
see block_copy_bandwidth.
""",
    ),
    cfg.IntOpt(
        "snapshot_scratch_reserve",
        default=1024,
        min=0,
        help="""
MiB that must stay free in the file system of snapshots_directory. While a snapshot is sent, what
the guest overwrites is kept there; if it could not be, the guest's own writes would fail, and
therefore the snapshot is ended before that. Raise it where guests write very fast: it must be more
than all of them write in half a second.
""",
    ),
    cfg.IntOpt(
        "snapshot_read_timeout",
        default=60,
        min=1,
        help="""
Seconds that the hypervisor may take to answer when a snapshot reads the disk. Raise it where the
disks themselves may hang longer than that.
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
    cfg.StrOpt(
        "tools_user",
        help="""
Whom qemu-img and qemu-nbd run as when this service is root: they read what guests and users have
made, and are to have no rights of their own. Unset, it is libvirt-qemu, qemu or nobody, whichever
of them this host has first. A disk that this user may not read is read with one capability,
CAP_DAC_READ_SEARCH, which lets a tool read every file of the host and write to none. Set it to a
user that can read the disks, and that owns nothing else, where there is one; or to root, to let the
tools do whatever the service may. A service that is not root runs them as itself.
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
Seconds that the guest's agent may take to answer, to freeze and to thaw, and libvirt to begin the
backup job in between. It bounds how long a quiesce may hold the guest's writes up. Raise it where
guests have very many file systems.
""",
    ),
    cfg.IntOpt(
        "quiesce_timeout",
        default=90,
        min=1,
        help="""
Seconds after which a guest is thawed that was frozen for the snapshots of its volumes, should
nobody have told the host that they are made. It must be more than [cinder] snapshot_timeout of the
API.
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
