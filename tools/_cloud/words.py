# SPDX-License-Identifier: Apache-2.0
"""What is said of a cloud that is up."""

TO_TRY = """
The cloud is up. It has the users admin, demo (member of the project demo), reader (reader of it)
and other (member of another project). In a shell:

    cd {repository}
    export OS_CLIENT_CONFIG_FILE=$PWD/.cloud/clouds.yaml OS_CLOUD=demo PATH="$PWD/.venv/bin:$PATH"

A server, which boots in about ten seconds:

    openstack server create --image lab-guest --flavor m1.nano --no-network --wait web
    openstack console log show web          # ends with "nova-snap-guest: ready boot=1"

A snapshot of it while it runs, and backups of which two are kept:

    openstack server image create --wait --name web-1 web
    openstack server backup create --wait --name nightly --type daily --rotate 2 web
    openstack image list --private          # web-1 and nightly, active
    openstack server event list web         # what was done, by which request

The nova client knows no clouds.yaml:

    (. .cloud/demo.openrc; nova image-create --poll --show web web-2)

A server from the snapshot, which shows that it has been booted before:

    openstack server create --image web-1 --flavor m1.nano --no-network --wait copy
    openstack console log show copy         # "ready boot=2"

Its life:

    openstack server pause web; openstack server unpause web
    openstack server stop web; openstack server start web
    openstack server delete --wait web copy

Who may do what: a reader only looks (403), and the other project's user finds no server (404, and
an empty list):

    openstack --os-cloud reader server image create web
    openstack --os-cloud other server show web

What nova_snap does meanwhile, and how it is configured:

    tail -f .cloud/nova-snap-compute.log .cloud/nova-snap-api.log
    cat .cloud/nova-snap.conf
    openstack --os-cloud admin compute service list

The end:

    tools/cloud --down"""
