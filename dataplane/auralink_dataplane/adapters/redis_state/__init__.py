"""State that the pods of a bridge share, in Redis 6.2 or later: standalone, with sentinels, or a cluster.

| call | scripts run | round trips |
|---|---|---|
| `beat` | 1 | 1 |
| `acquire`, `renew`, `release` | 1 per room, as one pipeline | 1 (cluster: 1 per node, at once) |
| `read`, `write` | 1 | 1, whatever the room's size |
| `follow` | - | 1 |

After a restart of Redis the first call sends its scripts in full, which is one round trip more.

Each script touches keys of one room only. The user in `redis.user` needs: `~auralink:* &auralink:* +@scripting +@read
+@write +@pubsub +@connection +@keyspace +time`, and `+cluster` for a cluster.
"""

from auralink_dataplane.adapters.redis_state.connect import Access
from auralink_dataplane.adapters.redis_state.store import RedisState

__all__ = ["Access", "RedisState"]
