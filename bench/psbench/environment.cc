// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/environment.h"

#include <fmt/format.h>
#include <hwloc.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>

#include "bench/psbench/build.h"
#include "bench/psbench/sizes.h"

namespace penstock::psbench {
namespace {

constexpr const char* kUnknown = "unknown";

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  return std::getline(file, line) && !line.empty() ? line : kUnknown;
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return kUnknown;
}

// The kernel marks the choice: "always [madvise] never".
std::string chosen(const std::string& line) {
  const std::size_t open = line.find('['), close = line.find(']');
  if (open == std::string::npos || close == std::string::npos || close < open) return kUnknown;
  return line.substr(open + 1, close - open - 1);
}

std::string memlock_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return kUnknown;
  if (limit.rlim_cur == RLIM_INFINITY) return "unlimited";
  return fmt::format("{}", limit.rlim_cur);
}

unsigned allowed_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? static_cast<unsigned>(CPU_COUNT(&set)) : 0;
}

unsigned count_numa_nodes() {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) return 0;
  const bool loaded = hwloc_topology_load(topology) == 0;
  const int nodes = loaded ? hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE) : 0;
  hwloc_topology_destroy(topology);
  return nodes > 0 ? static_cast<unsigned>(nodes) : 0;
}

}  // namespace

Environment read_environment() {
  Environment e;
  e.version = kVersion;
  e.commit = kCommit;
  e.compiler = kCompiler;
  e.build_type = kBuildType;
  e.sanitizer = kSanitizer;
  utsname name{};
  if (uname(&name) == 0) {
    e.hostname = name.nodename;
    e.kernel = fmt::format("{} {}", name.sysname, name.release);
  }
  e.cpu = cpu_model();
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  e.cores_online = online > 0 ? static_cast<unsigned>(online) : 0;
  e.cores_allowed = allowed_cores();
  e.numa_nodes = count_numa_nodes();
  struct sysinfo info {};
  if (sysinfo(&info) == 0) e.memory_bytes = std::uint64_t{info.totalram} * info.mem_unit;
  e.memlock = memlock_limit();
  e.transparent_huge_pages = chosen(first_line("/sys/kernel/mm/transparent_hugepage/enabled"));
  e.governor = first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  return e;
}

std::string describe(const Environment& e) {
  std::string text;
  text += fmt::format("  penstock  {} ({}), {}, {}, sanitizers {}\n", e.version, e.commit,
                      e.compiler, e.build_type, e.sanitizer);
  text += fmt::format("  host      {}, {}\n", e.hostname, e.kernel);
  text += fmt::format("  cpu       {}, {} of {} cores allowed, {} NUMA node{}, governor {}\n",
                      e.cpu, e.cores_allowed, e.cores_online, e.numa_nodes,
                      e.numa_nodes == 1 ? "" : "s", e.governor);
  text += fmt::format("  memory    {}, memlock {}, huge pages {}\n", format_size(e.memory_bytes),
                      e.memlock, e.transparent_huge_pages);
  return text;
}

}  // namespace penstock::psbench
