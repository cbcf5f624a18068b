# Debian's packages, for set-ups of tests to source.

# Debian starts what serves when it installs it, for the whole network; a policy of 101 keeps it from that
without_services() {
    local policy=/usr/sbin/policy-rc.d ours=
    [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' > $policy && chmod +x $policy && ours=yes; }
    "$@"
    local code=$?
    [ -z "$ours" ] || rm $policy
    return $code
}

# as root, with what they need and no more
install_packages() {
    if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive without_services apt-get install -y -qq "$@" > /dev/null
    fi
}
