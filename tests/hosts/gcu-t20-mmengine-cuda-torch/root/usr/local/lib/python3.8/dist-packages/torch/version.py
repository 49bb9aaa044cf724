from typing import Optional

__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip']
__version__ = '2.1.2+cu118'
debug = False
cuda: Optional[str] = '11.8'
git_version = '0123456789abcdef0123456789abcdef01234567'
hip: Optional[str] = None
