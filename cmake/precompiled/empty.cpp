// Something to compile the header with.
