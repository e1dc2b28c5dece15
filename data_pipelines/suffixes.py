"""Which files are taken for videos and for images, by their names: the only list of suffixes.

A name only decides what is looked at in a folder. Whether a file can be decoded is seen when it is opened.
"""

VIDEOS = (
    *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".mj2"),
    *(".avi", ".divx", ".mkv", ".webm", ".ogv", ".ogg", ".ogm", ".nut"),
    *(".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".mpv", ".vob", ".ts", ".m2t", ".m2ts", ".mts", ".tod", ".mod"),
    *(".wmv", ".asf", ".flv", ".rm", ".rmvb", ".dv", ".dif", ".mxf", ".gxf", ".wtv"),
    *(".y4m", ".h264", ".264", ".avc", ".hevc", ".h265", ".265", ".ivf", ".obu", ".mjpg", ".mjpeg", ".gif"),
)
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
