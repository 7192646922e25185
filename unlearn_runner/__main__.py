"""`python -m unlearn_runner`."""

import sys

from unlearn_runner.run import main

sys.exit(main())
