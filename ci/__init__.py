"""What the continuous integration needs beside the code: other kernels to run it on."""
