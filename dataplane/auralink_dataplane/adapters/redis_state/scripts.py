"""What Redis does in one step. Every script looks first and changes after, so that one that fails has changed nothing:
Redis does not undo what a failed script did.

A lease is the string "<token> <pod>". A token is the server's time in ms, or one more than the last if that is greater:
so it grows even if the server has lost all data. Numbers are text on the way: Redis cuts those of Lua to integers.

Ours begin errors with FOREIGN (what is there is not ours) and TOOLARGE; Redis itself says WRONGTYPE.
"""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha1
from typing import Final


@dataclass(frozen=True)
class Script:
    text: str

    @cached_property
    def sha(self) -> str:
        """By which Redis knows it (EVALSHA)."""
        return sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_PARSE: Final = """
local function foreign(key) return redis.error_reply('FOREIGN ' .. key) end
local function parsed(lease) return string.match(lease, '^(%d+) (.+)$') end
local function text(number) return string.format('%.0f', number) end
"""

PROBE: Final = Script(
    """
-- KEYS: birth. ARGV: a new name, ms for which it is kept. Returns the name of the data: another one than before means
-- that they were lost in between.
redis.call('SET', KEYS[1], ARGV[1], 'NX')
local name = redis.call('GET', KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return name
"""
)

BEAT: Final = Script(
    """
-- KEYS: pods. ARGV: pod, 1 if leaving, ms until a pod is forgotten, the most pods that are listed.
-- Scores are the server's ms, below zero of pods that leave. Returns now, pod, score, pod, score..
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gone = string.format('%.0f', now - ARGV[3])
redis.call('ZADD', KEYS[1], string.format('%.0f', ARGV[2] == '1' and -now or now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-' .. gone, gone)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local answer = redis.call('ZREVRANGE', KEYS[1], 0, ARGV[4] - 1, 'WITHSCORES')
table.insert(answer, 1, string.format('%.0f', now))
return answer
"""
)

ACQUIRE: Final = Script(
    _PARSE
    + """
-- KEYS: lease, fence. ARGV: pod, ms of the lease, ms of the fence.
-- Returns {token} or {pod that holds it, its remaining ms}.
local lease, last = redis.call('GET', KEYS[1]), 0
if lease then
  local token, pod = parsed(lease)
  if not token then return foreign(KEYS[1]) end
  if pod ~= ARGV[1] then return {pod, redis.call('PTTL', KEYS[1])} end
  last = tonumber(token)
end
local fence = tonumber(redis.call('HGET', KEYS[2], 'token') or '0')
if not fence then return foreign(KEYS[2]) end
local time = redis.call('TIME')
local token = text(math.max(last + 1, fence + 1, time[1] * 1000 + math.floor(time[2] / 1000)))
redis.call('SET', KEYS[1], token .. ' ' .. ARGV[1], 'PX', ARGV[2])
redis.call('HSET', KEYS[2], 'token', token)
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return {token}
"""
)

RENEW: Final = Script(
    _PARSE
    + """
-- KEYS: lease, fence, room. ARGV: pod, token, ms of the lease, of the fence, of the room.
-- Returns {} if renewed, {''} if nobody holds it, else {pod, its remaining ms}.
local lease = redis.call('GET', KEYS[1])
if not lease then return {''} end
if lease ~= ARGV[2] .. ' ' .. ARGV[1] then
  local token, pod = parsed(lease)
  if not token then return foreign(KEYS[1]) end
  return {pod, redis.call('PTTL', KEYS[1])}
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
for at, ms in ipairs({ARGV[4], ARGV[5]}) do
  if redis.call('TYPE', KEYS[1 + at]).ok == 'hash' then redis.call('PEXPIRE', KEYS[1 + at], ms) end
end
return {}
"""
)

RELEASE: Final = Script(
    """
-- KEYS: lease. ARGV: pod, token, channel. Returns whether it was held so.
if redis.call('GET', KEYS[1]) ~= ARGV[2] .. ' ' .. ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[3], '[]')
return 1
"""
)

READ: Final = Script(
    _PARSE
    + """
-- KEYS: lease, fence, room. ARGV: the most documents, the most bytes.
-- Returns lease or nil, newest token or nil, revision or nil, then id, document, id, document..
if redis.call('HLEN', KEYS[3]) > tonumber(ARGV[1]) then return redis.error_reply('TOOLARGE ' .. KEYS[3]) end
local lease = redis.call('GET', KEYS[1])
if lease and not parsed(lease) then return foreign(KEYS[1]) end
local fence = redis.call('HMGET', KEYS[2], 'token', 'revision')
local answer, bytes = {lease, fence[1], fence[2]}, 0
for at, piece in ipairs(redis.call('HGETALL', KEYS[3])) do
  bytes = bytes + #piece
  answer[3 + at] = piece
end
if bytes > tonumber(ARGV[2]) then return redis.error_reply('TOOLARGE ' .. KEYS[3]) end
return answer
"""
)

WRITE: Final = Script(
    _PARSE
    + """
-- KEYS: lease, fence, room. ARGV: pod, token, ms of the fence, of the room, the most documents, the most bytes,
-- channel, then id, '+document' or '-', ..
-- Returns {revision, number of documents that changed}, or {newest token} if ours is older.
local lease = redis.call('GET', KEYS[1])
if lease then
  local token, pod = parsed(lease)
  if not token then return foreign(KEYS[1]) end
  if pod ~= ARGV[1] or token ~= ARGV[2] then return {token} end
end
local fence = redis.call('HMGET', KEYS[2], 'token', 'revision', 'bytes')
local newest, revision = tonumber(fence[1] or '0'), tonumber(fence[2] or '0')
if not newest or not revision then return foreign(KEYS[2]) end
if newest > tonumber(ARGV[2]) then return {text(newest)} end
local changes, count = {}, redis.call('HLEN', KEYS[3])
local bytes = count > 0 and tonumber(fence[3] or '0') or 0
for at = 8, #ARGV, 2 do
  local before, after = redis.call('HGET', KEYS[3], ARGV[at]), nil
  if string.sub(ARGV[at + 1], 1, 1) == '+' then after = string.sub(ARGV[at + 1], 2) end
  if (before or nil) ~= after then
    changes[#changes + 1] = {ARGV[at], after}
    count = count + (after and 1 or 0) - (before and 1 or 0)
    bytes = bytes + (after and #ARGV[at] + #after or 0) - (before and #ARGV[at] + #before or 0)
  end
end
if count > tonumber(ARGV[5]) or bytes > tonumber(ARGV[6]) then return redis.error_reply('TOOLARGE ' .. KEYS[3]) end
if #changes > 0 then
  revision = revision + 1
  local news = {text(revision), ARGV[1]}
  for _, change in ipairs(changes) do
    if change[2] then redis.call('HSET', KEYS[3], change[1], change[2]) else redis.call('HDEL', KEYS[3], change[1]) end
    news[#news + 1] = change[1]
    news[#news + 1] = change[2] or false
  end
  redis.call('PUBLISH', ARGV[7], cjson.encode(news))
end
redis.call('HSET', KEYS[2], 'token', ARGV[2], 'revision', text(revision), 'bytes', text(bytes))
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
return {text(revision), #changes}
"""
)
