"""The loader: compiles nothing, attaches the BPF programs and stays while interfaces come and go."""
