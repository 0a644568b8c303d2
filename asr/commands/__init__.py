"""The commands `asr X`, one file each: flags in, a library call out."""
