"""Splitting models over ranks (FSDP2): each rank holds a part of every parameter, and gathers a block while it computes with it."""
