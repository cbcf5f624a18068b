#!/bin/sh
# What a MONAI Application Package's container does: show and extract as MONAI Deploy's runner asks, else stain.
set -eu
export_to=/var/run/holoscan/export

case ${1:-} in
show) cat "$HOLOSCAN_APP_MANIFEST_PATH" "$HOLOSCAN_PKG_MANIFEST_PATH" ;;
env) env | sort ;;
extract)
    [ -d "$export_to" ] || { echo "error: mount a folder at $export_to to extract to" >&2; exit 1; }
    if [ -d "$export_to/config" ]; then
        cp "$HOLOSCAN_APP_MANIFEST_PATH" "$HOLOSCAN_PKG_MANIFEST_PATH" "$HOLOSCAN_CONFIG_PATH" "$export_to/config"
    else
        mkdir -p "$export_to/config"
        cp "$HOLOSCAN_APP_MANIFEST_PATH" "$HOLOSCAN_PKG_MANIFEST_PATH" "$HOLOSCAN_CONFIG_PATH" "$export_to/config"
        cp -r "$HOLOSCAN_APPLICATION" "$export_to/app"
        cp -r "$HOLOSCAN_MODEL_PATH" "$export_to/models"
    fi
    ;;
*) exec python3 -m scripts.deploy.app "$@" ;; # its exit code is the container's
esac
