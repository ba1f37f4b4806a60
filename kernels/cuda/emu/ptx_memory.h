// ptx_memory.h is the part of ptx_ops.cc that reads and writes memory, with its counts of banks and sectors, and cp.async.
#pragma once

// ---- memory ----

// sectors counts the 32-byte pieces of global memory that a request touches, and the fewest that its bytes fit in.
void count_global(const u64* at, int bytes) {
  u64 seen[256];
  int n = 0, lanes = 0;
  each([&](int l) {
    lanes++;
    for (u64 s = at[l] / 32; s <= (at[l] + bytes - 1) / 32; s++) {
      bool known = false;
      for (int i = n - 1; i >= 0 && !known; i--) known = seen[i] == s;
      if (!known && n < 256) seen[n++] = s;
    }
  });
  counters.global_requests++;
  counters.sectors += n;
  u64 distinct = 0; // lanes that read the same place need it once
  u64 last = ~0ull;
  each([&](int l) {
    if (at[l] != last) distinct++;
    last = at[l];
  });
  counters.sectors_least += (distinct * bytes + 31) / 32;
}

// count_shared counts the cycles that a request takes beyond the least: 128 bytes a cycle, each of 32 banks one word.
// Lanes go together as far as 128 bytes reach: all with 4 bytes, 16 with 8, 8 with 16.
int shared_conflicts(const u32* at, const int* lanes, int n, int bytes) {
  int together = std::max(1, 128 / std::max(bytes, 4)), extra = 0;
  for (int from = 0; from < n; from += together) {
    u32 words[32 * 4];
    int load[32] = {}, count = 0, worst = 1;
    for (int i = from; i < std::min(n, from + together); i++)
      for (u32 w = at[lanes[i]] / 4; w <= (at[lanes[i]] + bytes - 1) / 4; w++) {
        bool known = false;
        for (int j = 0; j < count && !known; j++) known = words[j] == w;
        if (known) continue;
        words[count++] = w;
        worst = std::max(worst, ++load[w % 32]);
      }
    extra += worst - 1;
  }
  return extra;
}
void count_shared(const u32* at, int bytes) {
  int lanes[32], n = 0;
  each([&](int l) { lanes[n++] = l; });
  counters.shared_requests++;
  counters.shared_conflicts += shared_conflicts(at, lanes, n, bytes);
}

// address turns a register's value into a pointer, having checked space, bounds and alignment.
char* address(const Op& o, u64 at, int bytes, int lane) {
  if (at % bytes) emu::fail("lane %d: address %#lx is not %d-byte aligned (line %d: %s)", lane, (long)at, bytes, o.line, o.name);
  if (o.space == kShared) {
    if (at + bytes > emu::dynamic_shared_bytes)
      emu::fail("lane %d: shared access out of bounds: offset %ld, %d bytes of %zu (line %d: %s)", lane, (long)at, bytes, emu::dynamic_shared_bytes, o.line, o.name);
    return emu::dynamic_shared + at;
  }
  char* p = (char*)at;
  const auto& local = warp->local;
  if (!local.empty() && p >= local.data() && p + bytes <= local.data() + local.size()) return p;
  if (p >= parameter && p + bytes <= parameter + parameter_bytes) return p;
  if (o.space == kParameter) emu::fail("parameter read out of bounds: offset %ld, %d bytes of %zu (line %d: %s)", long(p - parameter), bytes, parameter_bytes, o.line, o.name);
  if (!emu::inside(at, bytes)) {
    const emu::Allocation* a = emu::allocation_near(at);
    if (!a) emu::fail("lane %d: illegal address %#lx (line %d: %s)", lane, (long)at, o.line, o.name);
    emu::fail("lane %d: global access out of bounds: offset %ld, %d bytes of an allocation of %zu (line %d: %s)", lane, (long)(at - (u64)a->start), bytes, a->bytes, o.line, o.name);
  }
  return p;
}

void gather_addresses(const Op& o, int operand, u64* at) {
  each([&](int l) { at[l] = (o.space == kShared ? get<u32>(o.arg[operand][0], l) : get<u64>(o.arg[operand][0], l)) + o.offset; });
}
void count_access(const Op& o, const u64* at, int bytes) {
  if (o.space == kShared) {
    u32 low[32];
    each([&](int l) { low[l] = u32(at[l]); });
    count_shared(low, bytes);
  } else if (o.space != kLocal && o.space != kParameter) {
    count_global(at, bytes);
  }
}

void load(const Op& o) {
  int n = o.count[0], total = n * o.bytes;
  u64 at[32];
  gather_addresses(o, 1, at);
  count_access(o, at, total);
  each([&](int l) {
    const char* p = address(o, at[l], total, l);
    for (int i = 0; i < n; i++) {
      u64 v = 0;
      memcpy(&v, p + i * o.bytes, o.bytes);
      cell(o.arg[0][i], l) = v;
    }
  });
}
void store(const Op& o) {
  int n = o.count[1], total = n * o.bytes;
  u64 at[32];
  gather_addresses(o, 0, at);
  count_access(o, at, total);
  each([&](int l) {
    char* p = address(o, at[l], total, l);
    for (int i = 0; i < n; i++) memcpy(p + i * o.bytes, &cell(o.arg[1][i], l), o.bytes);
  });
}

// atomic_add adds to 32 bits of global memory, lane by lane, and gives what was there.
void atomic_add(const Op& o) { // d, [at], by
  u64 at[32];
  gather_addresses(o, 1, at);
  count_access(o, at, 4);
  each([&](int l) {
    char* p = address(o, at[l], 4, l);
    u32 was, sum;
    memcpy(&was, p, 4);
    sum = was + get<u32>(o.arg[2][0], l);
    memcpy(p, &sum, 4);
    put(o.arg[0][0], l, was);
  });
}

// ---- cp.async: as on the emulated device, nothing is copied before the wait, and until then there is poison ----

void copy_async(const Op& o) { // [shared], [global], 16, bytes to read (the rest is zero)
  u32 to[32];
  u64 from[32];
  each([&](int l) {
    to[l] = get<u32>(o.arg[0][0], l);
    from[l] = get<u64>(o.arg[1][0], l);
  });
  counters.copies++;
  count_shared(to, 16);
  u32 all = mask;
  Op shared = o, global = o;
  shared.space = kShared;
  global.space = kGlobal;
  each([&](int l) {
    bool valid = o.count[3] == 0 || get<u32>(o.arg[3][0], l) != 0;
    if (!valid) mask &= ~(1u << l);
  });
  if (mask) count_global(from, 16);
  u32 reading = mask;
  mask = all;
  each([&](int l) {
    Lane& lane = warp->lanes[l];
    bool valid = reading >> l & 1;
    char* p = address(shared, to[l], 16, l);
    const char* q = valid ? address(global, from[l], 16, l) : nullptr;
    if (lane.copies == emu::kMaxCopies) emu::fail("too many cp.async are under way");
    memset(p, 0xff, 16);
    lane.copy[lane.copies++] = {p, q, valid};
  });
}
void commit_copies(const Op&) {
  each([&](int l) {
    Lane& lane = warp->lanes[l];
    if (lane.groups == emu::kMaxGroups) emu::fail("too many groups of cp.async are under way");
    lane.group_end[lane.groups++] = lane.copies;
  });
}
void wait_copies(const Op& o) {
  each([&](int l) {
    Lane& lane = warp->lanes[l];
    int newest = get<s32>(o.arg[0][0], l), done = lane.groups - newest;
    if (done <= 0) return;
    int n = lane.group_end[done - 1];
    for (int i = 0; i < n; i++) {
      const emu::PendingCopy& c = lane.copy[i];
      if (c.valid) memcpy(c.to, c.from, 16);
      else memset(c.to, 0, 16);
    }
    std::copy(lane.copy + n, lane.copy + lane.copies, lane.copy);
    lane.copies -= n;
    for (int i = done; i < lane.groups; i++) lane.group_end[i - done] = lane.group_end[i] - n;
    lane.groups -= done;
  });
}
