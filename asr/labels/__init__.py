"""Files of phones with their times: TIMIT's `.phn`, Praat's TextGrid, HTK's `.lab`."""
