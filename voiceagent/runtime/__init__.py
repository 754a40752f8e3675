"""asyncio: the only tasks. One session's stages, its machine and its clock."""
