"""Names of folders and files that a system keeps among photographs: thumbnails, recycle bins, indexes, histories.

Synopsis::

    system_files.kind("@eaDir", is_folder=True)      # "@eaDir"
    system_files.kind("wall.jpg", is_folder=False)   # ""
    system_files.is_left_by_looking("desktop.ini")   # whether an overview of a folder may have put it there
    system_files.summary(passed_over)                # "7 files and folders of the system passed over (6 @eaDir, 1 ..."

They are skipped wherever photographs or classes are listed. A folder that the user names is never skipped, whatever it
is called.
"""

import re
from collections.abc import Mapping

HIDDEN = "names with a dot in front"
# What systems put into any folder that somebody opens: Synology and QNAP; Windows; Mac.
THUMBNAIL_FOLDERS, VIEW_FILES, HIDDEN_VIEW_NAMES = (
    ("@eaDir", "@__thumb"),
    ("Thumbs.db", "desktop.ini"),
    (".DS_Store", ".@__thumb"),
)
APPLE_DOUBLE = "._"  # begins the name of a file that a Mac puts beside each of its own on a foreign disk
FOLDERS = {
    # network storage: Synology, QNAP, NetApp, Nextcloud
    *THUMBNAIL_FOLDERS,
    *("@tmp", "@sharebin", "#recycle", "#snapshot", "#snapshots", "#SynoRecycle"),
    *("@Recycle", "@Recently-Snapshot", "~snapshot", "files_trashbin", "files_versions"),
    # Windows, Mac, Linux
    *("$RECYCLE.BIN", "RECYCLER", "RECYCLED", "System Volume Information", "$Extend", "DfsrPrivate"),
    *("__MACOSX", "Network Trash Folder", "Temporary Items", "TheVolumeSettingsFolder", "lost+found"),
    # cameras, thumbnails of viewers and editors
    *("CANONMSC", "EOSMISC", "CaptureOne", "thumbs", "thumbnails", "_thumbs", "_thumbnails"),
    # version control, code
    *("CVS", "RCS", "_darcs", "__pycache__", "node_modules"),
}
FILES = {
    *VIEW_FILES,
    *("ehthumbs.db", "ehthumbs_vista.db", "autorun.inf", "IndexerVolumeGuid"),
    *("Icon\r", "Picasa.ini", "ZbThumbnail.info", "pspbrwse.jbf", "digikam4.db", "thumbnails-digikam.db"),
    *("WPSettings.dat", "pagefile.sys"),
}
# Parts of names: thumbnails and proxies that cameras put beside films, and copies that editors and Synology keep.
FOLDER_PATTERNS = {r"found\.\d{3}": "FOUND.000", r".+\.lrdata": "*.lrdata", r"@syno.*": "@Syno*"}
FILE_PATTERNS = {
    r".+\.thm": "*.THM",
    r".+\.lrv": "*.LRV",
    r".+\.ctg": "*.CTG",
    r".+~": "*~",
    r"~\$.*": "~$*",
    r".+@syno\w+": "*@Syno*",
    r"thumbs\.db:.*": "Thumbs.db",
}
_FOLDERS = {name.lower(): name for name in FOLDERS}
_FILES = {name.lower(): name for name in FILES}
_LEFT_BY_LOOKING = {name.lower() for name in THUMBNAIL_FOLDERS + VIEW_FILES + HIDDEN_VIEW_NAMES}


def kind(name: str, is_folder: bool) -> str:
    """Returns the label of the system's files of this kind; empty when `name` may be the user's."""
    if name.startswith("."):
        return HIDDEN
    lower = name.lower()
    known, patterns = (_FOLDERS, FOLDER_PATTERNS) if is_folder else (_FILES, FILE_PATTERNS)
    if lower in known:
        return known[lower]
    return next((label for pattern, label in patterns.items() if re.fullmatch(pattern, lower, re.S)), "")


def is_left_by_looking(name: str) -> bool:
    """Whether systems put files or folders of this name into every folder that somebody opens."""
    return name.lower() in _LEFT_BY_LOOKING or name.startswith(APPLE_DOUBLE)


def summary(passed_over: Mapping[str, int]) -> str:
    """Describes on one line what was skipped, by kind; empty when nothing was."""
    total = sum(passed_over.values())
    if not total:
        return ""
    kinds = ", ".join(f"{count:,} {name.strip()}" for name, count in sorted(passed_over.items()))
    return f"{total:,} {'file or folder' if total == 1 else 'files and folders'} of the system passed over ({kinds})"
