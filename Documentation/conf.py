# SPDX-License-Identifier: GPL-2.0
#
# Sphinx, with the kernel's own extension that turns names of documents, ABI
# files and C functions into references. KERNEL_SOURCE names the kernel's
# source.

import atexit
import os
import pathlib
import shutil
import sys
import tempfile

here = pathlib.Path(__file__).resolve().parent
kernel = pathlib.Path(os.environ["KERNEL_SOURCE"])

# The extension looks for ABI files where it finds the kernel's own: show it a
# tree that has its library, and our files.
tree = pathlib.Path(tempfile.mkdtemp(prefix="p2pdma-docs-"))
atexit.register(shutil.rmtree, tree, ignore_errors=True)
(tree / "tools").mkdir()
(tree / "tools/lib").symlink_to(kernel / "tools/lib")
(tree / "Documentation").symlink_to(here)
os.environ["srctree"] = str(tree)
sys.path.insert(0, str(kernel / "Documentation/sphinx"))

project = "PCI peer-to-peer DMA for Rust"
extensions = ["automarkup"]
root_doc = "index"
primary_domain = "c"
highlight_language = "none"
html_theme = "alabaster"
