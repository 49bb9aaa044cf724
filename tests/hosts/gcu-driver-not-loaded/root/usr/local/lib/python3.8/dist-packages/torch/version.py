__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip']
__version__ = '1.10.0'
debug = False
cuda = None
git_version = '0123456789abcdef0123456789abcdef01234567'
hip = None
