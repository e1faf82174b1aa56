"""From an instance label map to lane curves (`curves`) and to the files of lane benchmarks (one module each)."""
