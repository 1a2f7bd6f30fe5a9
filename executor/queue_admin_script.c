/* The operator's Lua; see the header, and redis_script.c for the rules that scripts keep. */
#include "executor/queue_admin_script.h"

#include "executor/queue_look.h"

/* each(fn): fn(key, priority, kind, name) for every stream of jobs there may be. */
#define LUA_EACH \
	LUA_LOOK \
	"local priorities = {'high', 'normal', 'low'}\n" \
	"local function each(fn)\n" \
	"  for p = 1, 3 do fn(KEYS[p], priorities[p], '', '') end\n" \
	"  for _, t in ipairs(names(KEYS[5])) do\n" \
	"    for p = 1, 3 do fn(KEYS[p] .. ':t:' .. t, priorities[p], 'tenant', t) end\n" \
	"  end\n" \
	"  for _, w in ipairs(names(KEYS[7])) do fn(KEYS[4] .. w, 'normal', 'worker', w) end\n" \
	"end\n"

const char queue_admin_look_script[] = LUA_EACH
	"local rows, by, consumers, entries, sum = {}, {}, {}, {}, {0, 0, 0}\n"
	"each(function(key, priority, kind, name)\n"
	"  local r = look(key)\n"
	"  if kind ~= '' and r[2] == 0 and r[3] == 0 then return end\n"
	"  r[5], r[6], r[7] = priority, kind, name\n"
	"  rows[#rows + 1] = r\n"
	"  sum[1], sum[2], sum[3] = sum[1] + r[2], sum[2] + r[3], math.max(sum[3], r[4])\n"
	"  if r[3] == 0 then return end\n"
	"  for _, c in ipairs(redis.call('XPENDING', key, 'petri')[4]) do by[c[1]] = (by[c[1]] or 0) + tonumber(c[2]) end\n"
	"  for _, e in ipairs(redis.call('XPENDING', key, 'petri', '-', '+', 20)) do\n"
	"    entries[#entries + 1] = {key, e[1], e[2], e[3], e[4]}\n"
	"  end\n"
	"end)\n"
	"for c, n in pairs(by) do consumers[#consumers + 1] = {c, n} end\n"
	"table.sort(consumers, function(a, b) return a[1] < b[1] end)\n"
	"return {now, sum[1], sum[2], sum[3], count('XLEN', KEYS[6]), rows, consumers, entries}\n";

/* A heartbeat lives for 15 s from its last beat. */
const char queue_admin_workers_script[] = LUA_LOOK
	"local out = {}\n"
	"for _, w in ipairs(names(KEYS[7])) do\n"
	"  local ttl, hash = redis.call('PTTL', KEYS[8] .. w), redis.pcall('HGETALL', KEYS[8] .. w)\n"
	"  if ttl > 0 and not bad(hash) then out[#out + 1] = {w, math.max(0, 15000 - ttl), hash} end\n"
	"end\n"
	"return out\n";

/* As a worker's own hand-back, but with one delivery counted, so that it runs with nothing beside it. */
const char queue_admin_requeue_script[] = LUA_EACH
	"local hits = {}\n"
	"each(function(key)\n"
	"  if ARGV[2] ~= '' and ARGV[2] ~= key then return end\n"
	"  local p = redis.pcall('XPENDING', key, 'petri', ARGV[1], ARGV[1], 1)\n"
	"  if not bad(p) and p[1] then hits[#hits + 1] = key end\n"
	"end)\n"
	"if #hits ~= 1 then return #hits end\n"
	"redis.call('XCLAIM', hits[1], 'petri', 'released', 0, ARGV[1], 'IDLE', 31536000000, 'RETRYCOUNT', 1, 'JUSTID')\n"
	"redis.call('PUBLISH', ARGV[3], 'released')\n"
	"return 1\n";

const char queue_admin_waiting_script[] = LUA_LOOK
	"local from = ARGV[2] ~= '' and ARGV[2] or delivered(ARGV[1])\n"
	"local list, out = redis.pcall('XRANGE', ARGV[1], '(' .. from, '+', 'COUNT', 8), {}\n"
	"for _, e in ipairs(bad(list) and {} or list) do\n"
	"  out[#out + 1] = {e[1], field(e[2], 'id'), field(e[2], 'job')}\n"
	"end\n"
	"return out\n";

/* The result first: where there is no memory for it, the job stays. */
const char queue_admin_purge_script[] = LUA_LOOK
	"local key, entry, id, prefix = ARGV[1], ARGV[2], ARGV[3], KEYS[9]\n"
	"local p = redis.pcall('XPENDING', key, 'petri', entry, entry, 1)\n"
	"if (not bad(p) and p[1]) or not redis.call('XRANGE', key, entry, entry)[1] then return 0 end\n"
	"local set = redis.call('SET', prefix .. 'result:' .. id, ARGV[4], 'NX', 'PX', ARGV[5])\n"
	"redis.call('XDEL', key, entry)\n"
	"if not set then return 1 end\n"
	"local done = prefix .. 'done:' .. id\n"
	"redis.call('DEL', done)\n"
	"redis.call('RPUSH', done, 'cancelled')\n"
	"redis.call('PEXPIRE', done, ARGV[5])\n"
	"if ARGV[7] ~= '' then\n"
	"  redis.pcall('XADD', prefix .. 'results:' .. ARGV[7], 'MAXLEN', '~', 10000, '*', 'id', id, 'status', 'cancelled', 'meta', ARGV[6])\n"
	"end\n"
	"return 1\n";

const char queue_admin_dead_script[] = LUA_LOOK
	"local out = {}\n"
	"for _, e in ipairs(redis.call('XRANGE', KEYS[6], ARGV[1], '+', 'COUNT', ARGV[2])) do\n"
	"  local f = e[2]\n"
	"  out[#out + 1] = {e[1], field(f, 'id'), field(f, 'attempts'), field(f, 'consumer'), field(f, 'stream'), field(f, 'error'),\n"
	"    #(field(f, 'job') or '')}\n"
	"end\n"
	"return out\n";

const char queue_admin_dead_job_script[] = LUA_LOOK
	"local e = redis.call('XRANGE', KEYS[6], ARGV[1], ARGV[1])[1]\n"
	"return e and field(e[2], 'job')\n";

/* Its result says that it was given up; with that in place the job would be dropped unrun. Any other result stays. */
const char queue_admin_dead_requeue_script[] = LUA_LOOK
	"local e = redis.call('XRANGE', KEYS[6], ARGV[1], ARGV[1])[1]\n"
	"if not e then return 'missing' end\n"
	"local id, job, stream = field(e[2], 'id'), field(e[2], 'job'), field(e[2], 'stream') or KEYS[2]\n"
	"if not job or job == '' then return 'no job' end\n"
	"if not name_ok(id) or string.sub(stream, 1, #KEYS[2]) ~= KEYS[2] then return 'bad' end\n"
	"local prefix = KEYS[9]\n"
	"if redis.call('EXISTS', prefix .. 'state:' .. id) == 1 then return 'running' end\n"
	"local result = redis.call('GET', prefix .. 'result:' .. id)\n"
	"local given_up = '{\"id\":\"' .. id .. '\",\"status\":\"internal_error\"'\n"
	"if result and string.sub(result, 1, #given_up) ~= given_up then return 'finished' end\n"
	"redis.call('XADD', stream, '*', 'id', id, 'job', job)\n"
	"redis.call('DEL', prefix .. 'result:' .. id, prefix .. 'done:' .. id, prefix .. 'cancelled:' .. id)\n"
	"redis.call('XDEL', KEYS[6], ARGV[1])\n"
	"local tenant = string.match(stream, ':t:([%w._-]+)$')\n"
	"if tenant then redis.call('SADD', KEYS[5], tenant) end\n"
	"redis.call('PUBLISH', ARGV[2], 'job')\n"
	"return 'requeued'\n";

const char queue_admin_dead_purge_script[] =
	"local n = redis.call('XLEN', KEYS[6])\n"
	"redis.call('DEL', KEYS[6])\n"
	"return n\n";
