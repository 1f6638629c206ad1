# SPDX-License-Identifier: Apache-2.0
"""What is read of a host beside libvirt's plain answers."""

import datetime

from nova_snap.virt.libvirt import resources

CAPABILITIES = """<capabilities><host><uuid>x</uuid><cpu><arch>x86_64</arch>
<model>Skylake-Server</model><vendor>Intel</vendor>
<topology sockets='1' dies='1' cores='8' threads='2'/>
<feature name='vmx'/><feature name='aes'/></cpu></host></capabilities>"""


def test_cpu():
    assert resources.cpu_info(CAPABILITIES) == {
        "arch": "x86_64",
        "model": "Skylake-Server",
        "vendor": "Intel",
        "topology": {"sockets": 1, "cores": 8, "threads": 2, "dies": 1},
        "features": ["aes", "vmx"],
    }


def test_no_cpu():
    assert resources.cpu_info("<capabilities><host/></capabilities>") == {}


def test_memory(tmp_path):
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       16384000 kB\nMemFree: 1 kB\nMemAvailable:    8192000 kB\n")
    assert resources.memory_mb(str(path)) == (16000, 8000)


def test_uptime(tmp_path):
    path = tmp_path / "uptime"
    path.write_text(f"{3 * 86400 + 2 * 3600 + 5 * 60 + 7}.45 99.9\n")
    found = resources.uptime(datetime.datetime(2026, 11, 23, 9, 8, 7), str(path))
    assert found.startswith("09:08:07 up 3 days,  2:05,  load average: ")
