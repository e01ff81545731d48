"""Which of these tests there are on a machine."""

import shutil

# Where no JDK is, there is no test of Java's client, rather than one that is skipped: no other test
# needs one, and CI installs none.
JDK = all(map(shutil.which, ("java", "javac")))
collect_ignore = [] if JDK else ["test_raw_java.py"]
