# SPDX-License-Identifier: Apache-2.0
"""From a disk to the bytes of an image, in one pass. Knows no libvirt and no image service."""
