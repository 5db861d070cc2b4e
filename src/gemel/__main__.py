"""python -m gemel"""

from gemel.cli import main

if __name__ == "__main__":
    main()
