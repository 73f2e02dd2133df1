"""The DICOM node: films arrive by C-STORE, results leave by C-STORE or STOW-RS, and nothing is lost in between.

node       starts the rest: one process, one state folder
receiver   what arrives: which objects are films that are read, and when the sender is told that they are safe
header     what a film's header says, as far as its results repeat it
store      the state folder: films, results, one row a film, the audit log
outcome    what became of a film, in the words of the results
report     an outcome -> a structured report (DICOM TID 1500)
capture    an outcome -> a picture with the heat map and the figures
results    the files of both, with UIDs that depend on film, model and profile alone
senders    results -> the archive, by C-STORE or STOW-RS
tls        what encrypts associations, in and out
worklist   what the web page shows of the store

It imports no Keras and nothing of the web; the web reads `store` and `worklist`.
"""
