#!/usr/bin/env bash
# What tests/hospital tests against: Debian's Orthanc, dcmtk and dicom3tools, and the environments of MONAI Deploy and
# MONAI Label. What cannot be installed is said, and its tests say that they did not run; .ci/run lets them fail.
cd "$(dirname "$0")/../.."

programs() { command -v Orthanc dcmdump dciodvfy > /dev/null && [ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ]; }

# Debian starts Orthanc when it installs it, for the whole network; a policy of 101 keeps it from that
without_services() {
    local policy=/usr/sbin/policy-rc.d ours=
    [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' > $policy && chmod +x $policy && ours=yes; }
    "$@"
    local code=$?
    [ -z "$ours" ] || rm $policy
    return $code
}

if ! programs; then
    if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive without_services apt-get install -y -qq \
            orthanc orthanc-dicomweb dcmtk dicom3tools > /dev/null
    fi
    programs || echo "NOT INSTALLED: orthanc orthanc-dicomweb dcmtk dicom3tools (as root: apt-get install them)" >&2
fi
make --no-print-directory deploy || echo "NOT INSTALLED: MONAI Deploy App SDK (make deploy)" >&2
make --no-print-directory label || echo "NOT INSTALLED: MONAI Label (make label)" >&2
exit 0
