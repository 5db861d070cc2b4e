"""python -m gemel"""

from gemel.cli.main import main

if __name__ == "__main__":
    main()
