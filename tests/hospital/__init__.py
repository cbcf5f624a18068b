"""Against real hospital programs: Orthanc, dcmtk, dciodvfy, MONAI Deploy, MONAI Label."""
