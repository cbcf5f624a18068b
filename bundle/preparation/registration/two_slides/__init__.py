"""Two slides brought onto one grid: consecutive sections, or one section stained twice."""
