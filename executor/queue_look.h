/* Lua that looks at streams without touching them, shared by the worker's metrics and the operator's verbs. */
#pragma once

/*
 * look(key) -> {key, depth, pending, oldest_ms}: what nobody has taken (XLEN minus pending, never `lag`), what is taken and not
 * acknowledged, and how long the first that waits has waited. names(set): its usable members, in order. All of it survives keys of
 * another type.
 */
#define LUA_LOOK \
	"local function bad(r) return type(r) == 'table' and r.err end\n" \
	"local function name_ok(s) return s and #s >= 1 and #s <= 128 and string.find(s, '^[%w._-]+$') end\n" \
	"local function field(list, name)\n" \
	"  for i = 1, #list, 2 do if list[i] == name then return list[i + 1] end end\n" \
	"  return false\n" \
	"end\n" \
	"local function names(key)\n" \
	"  local list, good = redis.pcall('SMEMBERS', key), {}\n" \
	"  if bad(list) then return good end\n" \
	"  for _, n in ipairs(list) do if name_ok(n) then good[#good + 1] = n end end\n" \
	"  table.sort(good)\n" \
	"  return good\n" \
	"end\n" \
	"local function count(verb, key)\n" \
	"  local n = redis.pcall(verb, key)\n" \
	"  return bad(n) and 0 or n\n" \
	"end\n" \
	"local clock = redis.call('TIME')\n" \
	"local now = clock[1] * 1000 + math.floor(clock[2] / 1000)\n" \
	"local function delivered(key)\n" \
	"  local groups = redis.pcall('XINFO', 'GROUPS', key)\n" \
	"  for _, g in ipairs(bad(groups) and {} or groups) do\n" \
	"    if field(g, 'name') == 'petri' then return field(g, 'last-delivered-id') end\n" \
	"  end\n" \
	"  return '0-0'\n" \
	"end\n" \
	"local function look(key)\n" \
	"  local n, pending, oldest = count('XLEN', key), 0, 0\n" \
	"  if n == 0 then return {key, 0, 0, 0} end\n" \
	"  local p = redis.pcall('XPENDING', key, 'petri')\n" \
	"  if not bad(p) then pending = p[1] end\n" \
	"  if n > pending then\n" \
	"    local e = redis.pcall('XRANGE', key, '(' .. delivered(key), '+', 'COUNT', 1)\n" \
	"    if not bad(e) and e[1] then oldest = math.max(0, now - tonumber(string.match(e[1][1], '^%d+'))) end\n" \
	"  end\n" \
	"  return {key, math.max(0, n - pending), pending, oldest}\n" \
	"end\n"
