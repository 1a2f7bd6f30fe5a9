/*
 * The queue's Lua scripts. Each runs atomically, but nothing is rolled back when a command in it fails, and Redis
 * refuses writes for lack of memory only before the first one (scripting, "OOM"): so what must not be lost is
 * written before anything that may fail, and what concerns one stream is called with pcall, so that a key of the
 * wrong type made by somebody else stops only itself.
 *
 * An entry is handed over as {stream, entry id, `id` field|nil, `job` field|nil, bytes of job, deliveries,
 * last consumer|nil, begun|nil}. A job over the size limit is not handed over, only its size. `begun` is there when the
 * state key was written already: START_OK or START_CANCEL.
 */
#include "executor/redis_script.h"

#include "base/cleanup.h"

/* settled: has its id a result already? Then it is acknowledged here and never runs. Else what was said of cancelling it; `true` where no key of
 * the id exists, the usual case, which one command tells. begin: write the state key, tell START_OK or START_CANCEL; what fails there, or finds the
 * key of another entry, is done again when the job runs. */
#define LUA_BEGIN \
	"local function bad(r) return type(r) == 'table' and r.err end\n" \
	"local function name_ok(s) return s and #s >= 1 and #s <= 128 and string.find(s, '^[%w._-]+$') end\n" \
	"local function settled(key, entry, id, result, cancelled, state)\n" \
	"  if not name_ok(id) then return false end\n" \
	"  if redis.call('EXISTS', result .. id, cancelled .. id, (state or result) .. id) == 0 then return false, true end\n" \
	"  local c = redis.pcall('GET', cancelled .. id)\n" \
	"  if c ~= 'done' and redis.call('EXISTS', result .. id) == 0 then return false, c end\n" \
	"  redis.call('XACK', key, 'petri', entry)\n" \
	"  redis.call('XDEL', key, entry)\n" \
	"  return true\n" \
	"end\n" \
	"local function begin(state, c, id, worker, entry, attempt, ttl)\n" \
	"  if not name_ok(id) then return false end\n" \
	"  if c ~= true then\n" \
	"    local held = redis.pcall('HGET', state .. id, 'entry')\n" \
	"    if held and held ~= entry then return false end\n" \
	"    if held then redis.pcall('DEL', state .. id) end\n" \
	"  end\n" \
	"  if bad(redis.pcall('HSET', state .. id, 'worker', worker, 'entry', entry, 'attempt', attempt)) then\n" \
	"    return false\n" \
	"  end\n" \
	"  redis.pcall('PEXPIRE', state .. id, ttl)\n" \
	"  return c == 'requested' and 1 or 0\n" \
	"end\n"

#define LUA_COMMON \
	LUA_BEGIN \
	"local function field(fields, name)\n" \
	"  for i = 1, #fields, 2 do if fields[i] == name then return fields[i + 1] end end\n" \
	"  return false\n" \
	"end\n" \
	"local function tenants()\n" \
	"  local list, good = redis.pcall('SMEMBERS', KEYS[5]), {}\n" \
	"  if bad(list) then return good end\n" \
	"  for _, t in ipairs(list) do if name_ok(t) then good[#good + 1] = t end end\n" \
	"  table.sort(good)\n" \
	"  return good\n" \
	"end\n" \
	"local function streams()\n" \
	"  local list = {KEYS[1], KEYS[2], KEYS[3], KEYS[4]}\n" \
	"  for _, t in ipairs(tenants()) do\n" \
	"    for p = 1, 3 do list[#list + 1] = KEYS[p] .. ':t:' .. t end\n" \
	"  end\n" \
	"  return list\n" \
	"end\n" \
	"local function pack(key, e, max, count, from, begun)\n" \
	"  local job = field(e[2], 'job')\n" \
	"  local size = job and #job or 0\n" \
	"  return {key, e[1], field(e[2], 'id'), size <= max and job, size, count, from or false, begun}\n" \
	"end\n"

const char *const redis_script_text[SCRIPT_MAX] = {
	[SCRIPT_SETUP] = LUA_COMMON
	"for i, key in ipairs(streams()) do\n"
	"  if i <= 4 or redis.call('EXISTS', key) == 1 then\n"
	"    local r = redis.pcall('XGROUP', 'CREATE', key, 'petri', '0', 'MKSTREAM')\n"
	"    if i <= 4 and bad(r) and not string.find(r.err, 'BUSYGROUP', 1, true) then return r end\n"
	"  end\n"
	"end\n"
	"return 1\n",

	/* Weighted 8:4:1 by priority; within one, round-robin over the base stream (''), the worker's own ('/') and
	 * the tenants, by name, beginning after the one that was served last. First come the entries that a blocking read
	 * took: whether they may run. Once only one stream has anything left, it is read by sixteens: to find where a read
	 * goes on costs more than the entry. */
	[SCRIPT_FETCH] = LUA_COMMON
	"local consumer, want, tick, max = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[7])\n"
	"local cursor = {ARGV[4], ARGV[5], ARGV[6]}\n"
	"local order = {1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 2, 1, 3}\n"
	"local lists = {{{'', KEYS[1]}}, {{'', KEYS[2]}, {'/', KEYS[4]}}, {{'', KEYS[3]}}}\n"
	"for _, t in ipairs(tenants()) do\n"
	"  for p = 1, 3 do local l = lists[p]; l[#l + 1] = {t, KEYS[p] .. ':t:' .. t} end\n"
	"end\n"
	"local dups, trouble, out, bytes, taken = 0, false, {}, 0, {}\n"
	"for i = 13, #ARGV, 3 do\n"
	"  local key, entry, id, begun = KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2], nil\n"
	"  local p = redis.pcall('XPENDING', key, 'petri', entry, entry, 1, consumer)\n"
	"  local over, c = bad(p) or #p == 0, nil\n"
	"  if over then begun = 3 else over, c = settled(key, entry, id, ARGV[8], ARGV[9], ARGV[10]) end\n"
	"  if over then begun = begun or 2 else begun = begin(ARGV[10], c, id, ARGV[11], entry, 1, ARGV[12]) end\n"
	"  taken[#taken + 1] = begun\n"
	"end\n"
	"local function read(s, n)\n"
	"  local base = s[1] == '' or s[1] == '/'\n"
	"  for attempt = 1, 2 do\n"
	"    local r = redis.pcall('XREADGROUP', 'GROUP', 'petri', consumer, 'COUNT', n, 'STREAMS', s[2], '>')\n"
	"    if not bad(r) then return r and r[1] and r[1][2] end\n"
	"    if not string.find(r.err, 'NOGROUP', 1, true) then\n"
	"      if base then trouble = r.err end\n"
	"      return nil\n"
	"    end\n"
	"    if not base and redis.call('EXISTS', s[2]) == 0 then return nil end\n"
	"    local made = redis.pcall('XGROUP', 'CREATE', s[2], 'petri', '0', 'MKSTREAM')\n"
	"    if base and (bad(made) or attempt == 2) then trouble = bad(made) or r.err end\n"
	"  end\n"
	"end\n"
	"local ahead, at = {}, 1\n"
	"local function fresh(s)\n"
	"  while true do\n"
	"    local e = ahead[at]\n"
	"    if e then at = at + 1\n"
	"    elseif dups >= 1000 then return nil\n"
	"    else\n"
	"      local alone = #lists[1] + #lists[2] + #lists[3] == 1\n"
	"      ahead, at = read(s, alone and math.min(want - #out, 16) or 1) or {}, 2\n"
	"      e = ahead[1]\n"
	"    end\n"
	"    if not e then return nil end\n"
	"    local over, c = settled(s[2], e[1], field(e[2], 'id'), ARGV[8], ARGV[9], ARGV[10])\n"
	"    if not over then return e, c end\n"
	"    dups = dups + 1\n"
	"  end\n"
	"end\n"
	"local function take(p)\n"
	"  local l, i = lists[p], 1\n"
	"  while l[i] and l[i][1] <= cursor[p] do i = i + 1 end\n"
	"  while #l > 0 do\n"
	"    if i > #l then i = 1 end\n"
	"    local s = l[i]\n"
	"    local e, c = fresh(s)\n"
	"    if e then\n"
	"      cursor[p] = s[1]\n"
	"      local id = field(e[2], 'id')\n"
	"      return pack(s[2], e, max, 1, nil, begin(ARGV[10], c, id, ARGV[11], e[1], 1, ARGV[12]))\n"
	"    end\n"
	"    table.remove(l, i)\n"
	"  end\n"
	"end\n"
	"while #out < want and (bytes < max or ahead[at]) do\n"
	"  local e = take(order[tick % 13 + 1]) or take(1) or take(2) or take(3)\n"
	"  if not e then break end\n"
	"  tick, bytes, out[#out + 1] = tick + 1, bytes + e[5], e\n"
	"end\n"
	/* Where to wait with few slots: everything up to here was delivered, so anything later is news. */
	"local last = {}\n"
	"if #out == 0 and want < 4 then\n"
	"  for i = 1, 4 do\n"
	"    last[i] = '0-0'\n"
	"    local groups = redis.pcall('XINFO', 'GROUPS', KEYS[i])\n"
	"    if not bad(groups) then\n"
	"      for _, g in ipairs(groups) do\n"
	"        if field(g, 'name') == 'petri' then last[i] = field(g, 'last-delivered-id') end\n"
	"      end\n"
	"    end\n"
	"  end\n"
	"end\n"
	"return {tick % 13, cursor, dups, out, last, trouble, taken}\n",

	/* XPENDING with IDLE and XCLAIM do what XAUTOCLAIM does, and tell the deliveries and the last consumer too. A
	 * worker that found nothing says so for a while in a key, and the others then look only at their own streams: with
	 * thousands of tenants and hundreds of workers, one look at all streams in that time is enough. */
	[SCRIPT_CLAIM] = LUA_COMMON
	"local dups, deleted, seen = 0, 0, redis.pcall('EXISTS', ARGV[6])\n"
	"for _, key in ipairs(seen == 1 and {KEYS[4]} or streams()) do\n"
	"  for n = 1, 200 do\n"
	"    local p = redis.pcall('XPENDING', key, 'petri', 'IDLE', ARGV[2], '-', '+', 1)\n"
	"    if bad(p) or #p == 0 then break end\n"
	"    local r = redis.call('XCLAIM', key, 'petri', ARGV[1], ARGV[2], p[1][1])\n"
	"    local e = r[1]\n"
	"    if not e then deleted = deleted + 1\n"
	"    elseif settled(key, e[1], field(e[2], 'id'), ARGV[4], ARGV[5]) then dups = dups + 1\n"
	"    else return {pack(key, e, tonumber(ARGV[3]), p[1][4] + 1, p[1][2]), dups, deleted} end\n"
	"  end\n"
	"end\n"
	"if seen ~= 1 then redis.pcall('SET', ARGV[6], 1, 'PX', ARGV[7]) end\n"
	"return {false, dups, deleted}\n",

	/* Entries that were delivered to us in replies that never came. XRANGE, unlike reading one's history with
	 * XREADGROUP, does not count as another delivery. */
	[SCRIPT_OWN] = LUA_COMMON
	"local want, held, out, dups = tonumber(ARGV[2]), {}, {}, 0\n"
	"for i = 6, #ARGV, 2 do held[ARGV[i] .. '\\n' .. ARGV[i + 1]] = true end\n"
	"for _, key in ipairs(streams()) do\n"
	"  local p = redis.pcall('XPENDING', key, 'petri', '-', '+', 1000, ARGV[1])\n"
	"  if bad(p) then p = {} end\n"
	"  for _, q in ipairs(p) do\n"
	"    if #out >= want then return {out, dups} end\n"
	"    if not held[key .. '\\n' .. q[1]] then\n"
	"      local e = redis.call('XRANGE', key, q[1], q[1])[1]\n"
	"      if not e then redis.call('XACK', key, 'petri', q[1])\n"
	"      elseif settled(key, e[1], field(e[2], 'id'), ARGV[4], ARGV[5]) then dups = dups + 1\n"
	"      else out[#out + 1] = pack(key, e, tonumber(ARGV[3]), q[4]) end\n"
	"    end\n"
	"  end\n"
	"end\n"
	"return {out, dups}\n",

	[SCRIPT_TIDY] = LUA_COMMON
	"for _, key in ipairs(streams()) do\n"
	"  local list = redis.pcall('XINFO', 'CONSUMERS', key, 'petri')\n"
	"  if bad(list) then list = {} end\n"
	"  for _, c in ipairs(list) do\n"
	"    if field(c, 'pending') == 0 and field(c, 'idle') > tonumber(ARGV[1]) then\n"
	"      redis.call('XGROUP', 'DELCONSUMER', key, 'petri', field(c, 'name'))\n"
	"    end\n"
	"  end\n"
	"end\n"
	/* A submitter adds its tenant in the transaction of its XADD, so forgetting one that has nothing is safe. */
	"for _, t in ipairs(tenants()) do\n"
	"  local total = 0\n"
	"  for p = 1, 3 do\n"
	"    local n = redis.pcall('XLEN', KEYS[p] .. ':t:' .. t)\n"
	"    if not bad(n) then total = total + n end\n"
	"  end\n"
	"  if total == 0 then\n"
	"    redis.call('SREM', KEYS[5], t)\n"
	"    for p = 1, 3 do redis.call('DEL', KEYS[p] .. ':t:' .. t) end\n"
	"  end\n"
	"end\n"
	/* A worker that was long gone and comes back names itself again. */
	"local workers = redis.pcall('SMEMBERS', ARGV[2])\n"
	"for _, w in ipairs(bad(workers) and {} or workers) do\n"
	"  local n = name_ok(w) and redis.pcall('XLEN', ARGV[4] .. w) or 0\n"
	"  if not (name_ok(w) and redis.call('EXISTS', ARGV[3] .. w) == 1) and (bad(n) or n == 0) then\n"
	"    redis.call('SREM', ARGV[2], w)\n"
	"  end\n"
	"end\n"
	"return 1\n",

	[SCRIPT_RENEW] =
		"local out = {}\n"
		"for i, key in ipairs(KEYS) do\n"
		"  local entry, job = ARGV[3 + 2 * i], ARGV[4 + 2 * i]\n"
		"  local p = redis.pcall('XPENDING', key, 'petri', entry, entry, 1, ARGV[1])\n"
		"  if type(p) == 'table' and p.err then\n"
		"    out[i] = string.find(p.err, 'NOGROUP', 1, true) and 0 or 1\n"
		"  elseif #p == 0 then\n"
		"    out[i] = 0\n"
		"  else\n"
		"    redis.call('XCLAIM', key, 'petri', ARGV[1], 0, entry, 'JUSTID')\n"
		"    out[i] = 1\n"
		"    if job ~= '' then\n"
		"      redis.call('PEXPIRE', ARGV[3] .. job, ARGV[2])\n"
		"      if redis.pcall('GET', ARGV[4] .. job) == 'requested' then out[i] = 2 end\n"
		"    end\n"
		"  end\n"
		"end\n"
		"return out\n",

	[SCRIPT_START] =
		"local cancelled = redis.pcall('GET', KEYS[4])\n"
		"if redis.call('EXISTS', KEYS[3]) == 1 or cancelled == 'done' then\n"
		"  redis.pcall('XACK', KEYS[1], 'petri', ARGV[2])\n"
		"  redis.pcall('XDEL', KEYS[1], ARGV[2])\n"
		"  return 2\n"
		"end\n"
		"local p = redis.pcall('XPENDING', KEYS[1], 'petri', ARGV[2], ARGV[2], 1, ARGV[1])\n"
		"if p.err or #p == 0 then return 3 end\n"
		"redis.call('DEL', KEYS[2])\n"
		"redis.call('HSET', KEYS[2], 'worker', ARGV[3], 'entry', ARGV[2], 'attempt', ARGV[4])\n"
		"redis.call('PEXPIRE', KEYS[2], ARGV[5])\n"
		"return cancelled == 'requested' and 1 or 0\n",

	/* ARGV: entry result ttl_ms id status meta has_reply is_dead job attempts consumer error only_if_entry */
	[SCRIPT_FINISH] =
		"if ARGV[13] == '1' then\n"
		"  local e = redis.pcall('XRANGE', KEYS[1], ARGV[1], ARGV[1])\n"
		"  if e.err or #e == 0 then return 0 end\n"
		"end\n"
		"redis.pcall('XACK', KEYS[1], 'petri', ARGV[1])\n"
		"redis.pcall('XDEL', KEYS[1], ARGV[1])\n"
		"local set = redis.call('SET', KEYS[2], ARGV[2], 'NX', 'PX', ARGV[3])\n"
		"if not set then\n"
		"  redis.call('DEL', KEYS[4])\n"
		"  return 0\n"
		"end\n"
		"redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])\n"
		"redis.call('RPUSH', KEYS[3], ARGV[5])\n"
		"redis.call('PEXPIRE', KEYS[3], ARGV[3])\n"
		"if ARGV[7] == '1' then\n"
		"  redis.pcall('XADD', KEYS[6], 'MAXLEN', '~', 10000, '*', 'id', ARGV[4], 'status', ARGV[5], 'meta', ARGV[6])\n"
		"end\n"
		"if ARGV[8] == '1' then\n"
		"  redis.pcall('XADD', KEYS[7], 'MAXLEN', '~', 1000, '*', 'id', ARGV[4], 'job', ARGV[9],\n"
		"    'attempts', ARGV[10], 'consumer', ARGV[11], 'error', ARGV[12], 'stream', KEYS[1])\n"
		"end\n"
		"return 1\n",

	/* To a consumer that nobody is, idle for so long that anybody may claim it at once; claiming counts again. */
	[SCRIPT_RELEASE] =
		"local p = redis.pcall('XPENDING', KEYS[1], 'petri', ARGV[2], ARGV[2], 1, ARGV[1])\n"
		"if p.err or #p == 0 then return 0 end\n"
		"redis.call('XCLAIM', KEYS[1], 'petri', 'released', 0, ARGV[2], 'IDLE', 31536000000,\n"
		"  'RETRYCOUNT', ARGV[3], 'JUSTID')\n"
		"if redis.pcall('HGET', KEYS[2], 'entry') == ARGV[2] then redis.call('DEL', KEYS[2]) end\n"
		"redis.pcall('DEL', KEYS[3])\n"
		"redis.call('PUBLISH', ARGV[4], 'released')\n"
		"return 1\n",

	[SCRIPT_CANCEL] =
		"if redis.call('EXISTS', KEYS[1]) == 1 then return 'finished' end\n"
		"if redis.call('EXISTS', KEYS[2]) == 1 then\n"
		"  redis.call('SET', KEYS[3], 'requested', 'PX', ARGV[4])\n"
		"  redis.call('PUBLISH', ARGV[5], ARGV[1])\n"
		"  return 'requested'\n"
		"end\n"
		"redis.call('SET', KEYS[1], ARGV[2], 'NX', 'PX', ARGV[3])\n"
		"redis.call('SET', KEYS[3], 'done', 'PX', ARGV[4])\n"
		"redis.call('DEL', KEYS[4])\n"
		"redis.call('RPUSH', KEYS[4], 'cancelled')\n"
		"redis.call('PEXPIRE', KEYS[4], ARGV[3])\n"
		"redis.call('PUBLISH', ARGV[5], ARGV[1])\n"
		"return 'cancelled'\n",
};

void redis_script_begin(const struct redis_scripts *scripts, enum redis_script script, unsigned nkeys,
	struct redis_args *args)
{
	if (scripts && scripts->sha[script][0]) {
		redis_args_str(args, "EVALSHA");
		redis_args_str(args, scripts->sha[script]);
	} else {
		redis_args_str(args, "EVAL");
		redis_args_str(args, redis_script_text[script]);
	}
	redis_args_u64(args, nkeys);
}
