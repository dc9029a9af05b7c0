"""Live cells: kernels for pages, whose readers may only name a cell."""
