"""What clients see of an AI Core: `service` speaks gRPC and decides who is served, `call` carries one session between
its client and its worker, `opening` says what may be asked for. Wired and run by `__main__`.
"""

from auralink_aicore.server.opening import BadRequestError
from auralink_aicore.server.service import AiCore, TlsFiles

__all__ = ["AiCore", "BadRequestError", "TlsFiles"]
