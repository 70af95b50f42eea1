"""Snapshots and the model registry in Redis."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson

from stream_ad.config import Redis
from stream_ad.errors import ConnectionFailed, ModelError, StateError, StreamAdError
from stream_ad.io.memory import unknown_version
from stream_ad.io.redis.client import answering, connect
from stream_ad.protocols import BUILT_IN, ModelInfo, Wish

_NO_PARTITION = -1
_UPLOAD_S = 3600  # the parts of an interrupted save expire after it

# Lua, so that each is one atomic step. Owners' numbers start at the clock, so that an emptied Redis repeats none.
_CLAIM = """
local now = redis.call('TIME')
local number = math.max(tonumber(redis.call('HGET', KEYS[1], 'owner') or '0') + 1, now[1] * 1000000 + now[2])
redis.call('HSET', KEYS[1], 'owner', string.format('%.0f', number))
return string.format('%.0f', number)
"""
# KEYS: the snapshot; ARGV: owner, next_offset, the key of its parts, their number
_SAVE = """
local owner = tonumber(redis.call('HGET', KEYS[1], 'owner') or '0')
local offset = tonumber(redis.call('HGET', KEYS[1], 'next_offset') or '-1')
if tonumber(ARGV[1]) < owner or tonumber(ARGV[2]) < offset then return 0 end
local old = redis.call('HMGET', KEYS[1], 'parts_key', 'parts')
for i = 1, tonumber(old[2] or '0') do redis.call('UNLINK', old[1] .. ':' .. i) end
for i = 1, tonumber(ARGV[4]) do redis.call('PERSIST', ARGV[3] .. ':' .. i) end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'next_offset', ARGV[2], 'parts_key', ARGV[3], 'parts', ARGV[4])
return 1
"""
_NOTE = """
local function note(action, version)
  local now = redis.call('TIME')
  local ms = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
  redis.call('RPUSH', KEYS[3], ms .. ' ' .. action .. ' ' .. version)
  redis.call('LTRIM', KEYS[3], -1000, -1)
end
"""
# KEYS: infos, wish, history, earlier wishes, order, bytes
_PUT = """
local there = redis.call('HGET', KEYS[1], ARGV[1])
if there and cjson.decode(there)['sha256'] ~= ARGV[4] then return 0 end
redis.call('SET', KEYS[6], ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if not there then redis.call('RPUSH', KEYS[5], ARGV[1]) end
return 1
"""
_PROMOTE = (
    _NOTE
    + """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local wanted = redis.call('HGET', KEYS[2], 'wanted')
if wanted and ARGV[2] == 'adopt' then return 1 end
if wanted ~= ARGV[1] then
  redis.call('RPUSH', KEYS[4], wanted or ARGV[3])
  redis.call('HSET', KEYS[2], 'wanted', ARGV[1])
  note(ARGV[2] == 'force' and 'force' or 'promote', ARGV[1])
end
return 1
"""
)
_ROLLBACK = (
    _NOTE
    + """
local earlier = redis.call('RPOP', KEYS[4])
if not earlier then return false end
redis.call('HSET', KEYS[2], 'wanted', earlier)
note('rollback', earlier)
return earlier
"""
)
_SHADOW = (
    _NOTE
    + """
if ARGV[1] ~= '' and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
if (redis.call('HGET', KEYS[2], 'shadow') or '') ~= ARGV[1] then
  redis.call('HSET', KEYS[2], 'shadow', ARGV[1])
  note('shadow', ARGV[1])
end
return 1
"""
)


class RedisStateStore:
    """Snapshots of the pipeline's partitions.

    `save` refuses an owner's number older than the latest claim, and an offset lower than the stored one,
    whoever saves. So it refuses the snapshots of an owner that had to begin again from the log, below the
    stored snapshot, until that owner has caught up. A topic that was deleted and created anew needs another
    `redis.prefix` (or pipeline name), since its offsets begin at 0 again.
    """

    def __init__(self, config: Redis) -> None:
        self._config = config
        self._redis = connect(config)
        self._claim = self._redis.register_script(_CLAIM)
        self._save = self._redis.register_script(_SAVE)

    def _key(self, partition: int) -> str:
        return f"{self._config.prefix}:state:{partition}"

    def claim(self, partition: int) -> int:
        with answering(self._config):
            return int(self._claim(keys=[self._key(partition)]))

    def offset(self, partition: int) -> int:
        with answering(self._config):
            return int(self._redis.hget(self._key(partition), "next_offset") or -1)

    def load(self, partition: int) -> Iterator[bytes] | None:
        with answering(self._config):
            name, count = self._redis.hmget(self._key(partition), "parts_key", "parts")
        return None if name is None else self._parts(partition, name.decode(), int(count))

    def _parts(self, partition: int, key: str, count: int) -> Iterator[bytes]:
        """Fetches the next part while the caller works on the current one."""
        names = [f"{key}:{number + 1}" for number in range(count)]
        with ThreadPoolExecutor(1, "snapshot") as ahead:
            coming = [ahead.submit(self._redis.get, name) for name in names[:1]]
            for following in [*names[1:], None]:
                with answering(self._config):
                    part: bytes | None = coming.pop().result()
                if part is None:
                    raise self._gone(partition, key)
                if following is not None:
                    coming.append(ahead.submit(self._redis.get, following))
                yield part

    def _gone(self, partition: int, key: str) -> StreamAdError:
        with answering(self._config):
            current = self._redis.hget(self._key(partition), "parts_key")
        if current == key.encode():
            return StateError(f"partition {partition}: parts of the snapshot are gone; is maxmemory-policy noeviction?")
        return ConnectionFailed(f"partition {partition}: another snapshot replaced this one while it was read")

    def save(self, partition: int, owner: int, next_offset: int, parts: Iterable[bytes]) -> bool:
        key = f"{self._key(partition)}:{uuid.uuid4().hex}"
        count = 0
        with answering(self._config):
            for part in parts:
                count += 1
                self._redis.set(f"{key}:{count}", part, ex=_UPLOAD_S)
            saved = bool(self._save(keys=[self._key(partition)], args=[owner, next_offset, key, count]))
            if not saved:
                self._redis.unlink(*(f"{key}:{number + 1}" for number in range(count)))
            return saved

    def forget(self, partition: int) -> None:
        with answering(self._config):
            name, parts = self._redis.hmget(self._key(partition), "parts_key", "parts")
            blobs = [f"{name.decode()}:{number + 1}" for number in range(int(parts))] if name else []
            self._redis.unlink(self._key(partition), *blobs)


def reach(config: Redis) -> None:
    """Reads and saves as a run does, under a partition that no topic has. Raises `ConnectionFailed`, `NotAllowed`."""
    RedisModelStore(config).list()
    states = RedisStateStore(config)
    states.save(_NO_PARTITION, states.claim(_NO_PARTITION), 0, [b""])
    list(states.load(_NO_PARTITION) or ())
    states.forget(_NO_PARTITION)


class RedisModelStore:
    """The registry: versions, the wanted one and the shadow. `wish` is one round trip."""

    def __init__(self, config: Redis) -> None:
        self._config = config
        self._redis = connect(config)
        base = f"{config.prefix}:models"
        self._infos, self._wish, self._history = f"{base}:infos", f"{base}:wish", f"{base}:history"
        self._earlier, self._order, self._blob = f"{base}:earlier", f"{base}:order", f"{base}:bundle:"
        self._keys = [self._infos, self._wish, self._history, self._earlier, self._order]
        self._scripts: Mapping[str, Any] = {
            name: self._redis.register_script(text)
            for name, text in (("put", _PUT), ("promote", _PROMOTE), ("rollback", _ROLLBACK), ("shadow", _SHADOW))
        }

    def put(self, info: ModelInfo, blob: bytes) -> None:
        """May repeat a version with the same content, and add a signature. `ModelError` for other content."""
        with answering(self._config):
            keys = [*self._keys, self._blob + info.version]
            put = self._scripts["put"](keys=keys, args=[info.version, _packed(info), blob, info.sha256])
        if not put:
            raise ModelError(f"version {info.version} exists with other content; a version is never changed")

    def get(self, version: str) -> bytes:
        with answering(self._config):
            blob: bytes | None = self._redis.get(self._blob + version)
        if blob is None:
            raise self._unknown(version)
        return blob

    def list(self) -> Sequence[ModelInfo]:
        """The versions in the order in which they were put."""
        with answering(self._config):
            order = self._redis.lrange(self._order, 0, -1)
            infos = self._redis.hmget(self._infos, order) if order else []
        return [_unpacked(info) for info in infos if info is not None]

    def wish(self) -> Wish:
        with answering(self._config):
            wanted, shadow = self._redis.hmget(self._wish, "wanted", "shadow")
        return Wish((wanted or b"").decode() or None, (shadow or b"").decode() or None)

    def promote(self, version: str, forced: bool = False) -> None:
        self._ask("promote", version, "force" if forced else "promote", BUILT_IN)

    def adopt(self, version: str) -> None:
        self._ask("promote", version, "adopt", BUILT_IN)

    def rollback(self) -> str:
        with answering(self._config):
            earlier: bytes | None = self._scripts["rollback"](keys=self._keys)
        if earlier is None:
            raise ModelError("nothing to roll back to: no version was promoted, or all promotions are rolled back")
        return earlier.decode()

    def shadow(self, version: str | None) -> None:
        self._ask("shadow", version or "")

    def history(self) -> Sequence[tuple[int, str, str]]:
        with answering(self._config):
            lines = self._redis.lrange(self._history, 0, -1)
        notes = [line.decode().split(" ", 2) for line in lines]
        return [(int(ms), action, version) for ms, action, version in notes]

    def _ask(self, script: str, version: str, *arguments: str) -> None:
        with answering(self._config):
            known = self._scripts[script](keys=self._keys, args=[version, *arguments])
        if not known:
            raise self._unknown(version)

    def _unknown(self, version: str) -> ModelError:
        return unknown_version(version, [info.version for info in self.list()])


def _packed(info: ModelInfo) -> bytes:
    return orjson.dumps(
        {
            "version": info.version,
            "kind": info.kind,
            "created_ms": info.created_ms,
            "sha256": info.sha256,
            "size_bytes": info.size_bytes,
            "metrics": dict(info.metrics),
        }
    )


def _unpacked(text: bytes) -> ModelInfo:
    return ModelInfo(**orjson.loads(text))
