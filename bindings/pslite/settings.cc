// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/pslite/settings.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace penstock::pslite {

const char* Environment::find(const std::string& name) {
  const std::lock_guard lock(mutex_);
  if (const auto given = given_.find(name); given != given_.end()) {
    auto& shown = shown_[name];
    if (shown.empty() || *shown.back() != given->second)
      shown.push_back(std::make_unique<std::string>(given->second));
    return shown.back()->c_str();
  }
  return ::getenv(name.c_str());
}

void Environment::set(const std::string& name, std::string value) {
  const std::lock_guard lock(mutex_);
  given_[name] = std::move(value);
}

std::map<std::string, std::string> Environment::given() {
  const std::lock_guard lock(mutex_);
  return given_;
}

namespace {

Result<int> whole(Environment& environment, const char* name, std::optional<int> otherwise, int low,
                  int high) {
  const char* const text = environment.find(name);
  if (text == nullptr || *text == '\0') {
    if (otherwise) return *otherwise;
    return Status(Code::kInvalidArgument, fmt::format("{} is not set", name))
        .with_hint(
            "a ps program is started with DMLC_ROLE, DMLC_NUM_WORKER, DMLC_NUM_SERVER, "
            "DMLC_PS_ROOT_URI and DMLC_PS_ROOT_PORT in its environment");
  }
  int value = 0;
  const char* const end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  if (error != std::errc() || stop != end || value < low || value > high)
    return Status(Code::kInvalidArgument,
                  fmt::format("{} is \"{}\", but must be a whole number from {} to {}", name, text,
                              low, high));
  return value;
}

std::string text_or(Environment& environment, const char* name, const std::string& otherwise) {
  const char* const text = environment.find(name);
  return text == nullptr || *text == '\0' ? otherwise : text;
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host.rfind("127.", 0) == 0 || host == "::1";
}

// The address of this host on the way to the scheduler.
std::string address_towards(const std::string& host, const std::string& port) {
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) return {};
  std::string address;
  if (const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0); fd >= 0) {
    sockaddr_in mine{};
    socklen_t length = sizeof mine;
    char text[INET_ADDRSTRLEN];
    if (::connect(fd, found->ai_addr, found->ai_addrlen) == 0 &&
        ::getsockname(fd, reinterpret_cast<sockaddr*>(&mine), &length) == 0 &&
        ::inet_ntop(AF_INET, &mine.sin_addr, text, sizeof text) != nullptr)
      address = text;
    ::close(fd);
  }
  ::freeaddrinfo(found);
  return address;
}

std::string address_of_interface(const std::string& name) {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return {};
  std::string address;
  for (const ifaddrs* one = all; one != nullptr && address.empty(); one = one->ifa_next) {
    if (one->ifa_addr == nullptr || one->ifa_addr->sa_family != AF_INET || name != one->ifa_name)
      continue;
    char text[INET_ADDRSTRLEN];
    const auto* const ipv4 = reinterpret_cast<const sockaddr_in*>(one->ifa_addr);
    if (::inet_ntop(AF_INET, &ipv4->sin_addr, text, sizeof text) != nullptr) address = text;
  }
  ::freeifaddrs(all);
  return address;
}

Result<std::string> find_host(Environment& environment, const std::string& root,
                              const std::string& port) {
  if (const std::string given = text_or(environment, "DMLC_NODE_HOST", ""); !given.empty())
    return given;
  if (const std::string name = text_or(environment, "DMLC_INTERFACE", ""); !name.empty()) {
    const std::string address = address_of_interface(name);
    if (!address.empty()) return address;
    return Status(Code::kInvalidArgument,
                  fmt::format("DMLC_INTERFACE is \"{}\": no interface of that name has an IPv4 "
                              "address",
                              name));
  }
  if (is_loopback(root)) return std::string("127.0.0.1");
  const std::string address = address_towards(root, port);
  if (!address.empty()) return address;
  return Status(Code::kInvalidArgument,
                fmt::format("DMLC_PS_ROOT_URI is \"{}\", and there is no way to it", root))
      .with_hint("set DMLC_NODE_HOST to this node's own address");
}

// The variables that choose a transport, in words of ours.
Result<std::string> find_transport(Environment& environment) {
  const std::string own = text_or(environment, "PENSTOCK_TRANSPORT", "");
  if (!own.empty()) return own;
  const std::string rdma = text_or(environment, "DMLC_ENABLE_RDMA", "0");
  const std::string van = text_or(environment, "DMLC_PS_VAN_TYPE", "");
  if (text_or(environment, "DMLC_ENABLE_UCX", "0") != "0" || rdma == "fabric")
    return std::string("ucx");
  if (rdma == "1" || rdma == "ibverbs" || van == "ibverbs") return std::string("verbs");
  if (text_or(environment, "DMLC_LOCAL", "0") != "0") return std::string("shm");
  if (rdma == "zmq" || van == "zmq" || van == "p3") return std::string("tcp");
  for (const auto& [name, value] : {std::pair("DMLC_ENABLE_RDMA", rdma), {"DMLC_PS_VAN_TYPE", van}})
    if (!value.empty() && value != "0" && value != "multivan")
      return Status(Code::kInvalidArgument, fmt::format("{} is \"{}\"", name, value))
          .with_hint("known are zmq, p3, ibverbs, fabric, multivan, 0 and 1");
  return std::string("auto");
}

constexpr const char* kKnown[] = {"DMLC_ROLE",
                                  "DMLC_NUM_WORKER",
                                  "DMLC_NUM_SERVER",
                                  "DMLC_PS_ROOT_URI",
                                  "DMLC_PS_ROOT_PORT",
                                  "DMLC_NODE_HOST",
                                  "DMLC_INTERFACE",
                                  "DMLC_RANK",
                                  "DMLC_LOCAL",
                                  "DMLC_USE_KUBERNETES",
                                  "DMLC_PS_VAN_TYPE",
                                  "DMLC_PS_WATER_MARK",
                                  "DMLC_PORT",
                                  "DMLC_NUM_PORTS",
                                  "DMLC_GROUP_SIZE",
                                  "DMLC_ENABLE_RDMA",
                                  "DMLC_ENABLE_UCX",
                                  "DMLC_NUM_CPU_DEV",
                                  "DMLC_NUM_GPU_DEV",
                                  "DMLC_LOCKLESS_QUEUE",
                                  "DMLC_POLLING_IN_NANOSECOND",
                                  "DMLC_WORKER_ID",
                                  "DMLC_SERVER_ID",
                                  "DMLC_NODE_RANK",
                                  "DMLC_LOG_STACK_TRACE_DEPTH",
                                  "PS_VERBOSE",
                                  "PS_HEARTBEAT_INTERVAL",
                                  "PS_HEARTBEAT_TIMEOUT",
                                  "PS_RESEND",
                                  "PS_RESEND_TIMEOUT",
                                  "PS_DROP_MSG",
                                  "PS_KEY_LOG"};

}  // namespace

int whole_or(Environment& environment, const char* name, int otherwise) {
  const Result<int> value = whole(environment, name, otherwise, INT32_MIN, INT32_MAX);
  return value.ok() ? value.value() : otherwise;
}

Result<Part> part_of_environment(Environment& environment) {
  const std::string role = text_or(environment, "DMLC_ROLE", "");
  if (role == "worker") return Part::kWorker;
  if (role == "server") return Part::kServer;
  if (role == "scheduler") return Part::kScheduler;
  if (role == "joint") return Part::kJoint;
  return Status(Code::kInvalidArgument, role.empty() ? std::string("DMLC_ROLE is not set")
                                                     : fmt::format("DMLC_ROLE is \"{}\"", role))
      .with_hint("it must be worker, server, scheduler or joint");
}

namespace {

Status read_security(Environment& environment, const std::string& root, Settings& settings) {
  if (environment.find(kSecretFileVariable) != nullptr) return {};
  settings.insecure = is_loopback(root) || whole_or(environment, "PENSTOCK_INSECURE", 0) == 1;
  if (settings.insecure) return {};
  return Status(Code::kUnauthenticated,
                fmt::format("DMLC_PS_ROOT_URI is \"{}\", not this host, and there is no job secret",
                            root))
      .with_hint(
          "set PENSTOCK_SECRET_FILE to a file (mode 0600) that every node has, or "
          "PENSTOCK_INSECURE=1 on all of them for a job that anybody may join and read");
}

Status read_faults(Environment& environment, Settings& settings) {
  PENSTOCK_ASSIGN_OR_RETURN(settings.drop_percent, whole(environment, "PS_DROP_MSG", 0, 0, 99));
  PENSTOCK_ASSIGN_OR_RETURN(const int resend, whole(environment, "PS_RESEND", 0, 0, 1));
  PENSTOCK_ASSIGN_OR_RETURN(const int ms,
                            whole(environment, "PS_RESEND_TIMEOUT", 1000, 1, 3600 * 1000));
  settings.resend = resend == 1;
  settings.resend_ns = ms * kMillisecond;
  PENSTOCK_ASSIGN_OR_RETURN(const int silence,
                            whole(environment, "PS_HEARTBEAT_TIMEOUT", 0, 0, 24 * 3600));
  if (silence > 0) settings.detect_ns = silence * kSecond;
  PENSTOCK_ASSIGN_OR_RETURN(const int start,
                            whole(environment, "PENSTOCK_START_TIMEOUT", 600, 1, 7 * 24 * 3600));
  settings.start_ns = start * kSecond;
  return {};
}

}  // namespace

Result<Settings> read_settings(Environment& environment, std::optional<Part> part) {
  Settings settings;
  if (part) {
    settings.part = *part;
  } else {
    PENSTOCK_ASSIGN_OR_RETURN(settings.part, part_of_environment(environment));
  }
  PENSTOCK_ASSIGN_OR_RETURN(settings.workers,
                            whole(environment, "DMLC_NUM_WORKER", {}, 1, kMaxJobWorkers));
  PENSTOCK_ASSIGN_OR_RETURN(settings.servers,
                            whole(environment, "DMLC_NUM_SERVER", {}, 0, kMaxJobServers));
  PENSTOCK_ASSIGN_OR_RETURN(const int group, whole(environment, "DMLC_GROUP_SIZE", 1, -1, 64));
  settings.group = std::max(group, 1);
  const std::string root = text_or(environment, "DMLC_PS_ROOT_URI", "");
  if (root.empty()) return Status(Code::kInvalidArgument, "DMLC_PS_ROOT_URI is not set");
  PENSTOCK_ASSIGN_OR_RETURN(const int port, whole(environment, "DMLC_PS_ROOT_PORT", {}, 1, 65535));
  settings.root = fmt::format("{}:{}", root, port);
  PENSTOCK_ASSIGN_OR_RETURN(settings.host, find_host(environment, root, std::to_string(port)));
  PENSTOCK_ASSIGN_OR_RETURN(settings.transport, find_transport(environment));
  PENSTOCK_RETURN_IF_ERROR(read_security(environment, root, settings));
  PENSTOCK_RETURN_IF_ERROR(read_faults(environment, settings));
  settings.throws = text_or(environment, "PENSTOCK_PS_ERRORS", "") == "throw";
  settings.verbose = whole_or(environment, "PS_VERBOSE", 0);
  const char* const port_name = environment.find("PORT") != nullptr ? "PORT" : "DMLC_PORT";
  PENSTOCK_ASSIGN_OR_RETURN(const int own_port, whole(environment, port_name, 0, 0, 65535));
  if (settings.part == Part::kServer && settings.group == 1)
    settings.listen_port = std::to_string(own_port);
  if (settings.part == Part::kScheduler && whole_or(environment, "DMLC_USE_KUBERNETES", 0) == 1)
    settings.root = fmt::format("0.0.0.0:{}", port);
  return settings;
}

std::string unknown_variables(Environment& environment) {
  std::vector<std::string> names;
  for (const auto& [name, value] : environment.given()) names.push_back(name);
  for (char** entry = environ; *entry != nullptr; ++entry)
    names.emplace_back(*entry, std::strcspn(*entry, "="));
  std::string unknown;
  for (const std::string& name : names) {
    if (name.rfind("DMLC_", 0) != 0 && name.rfind("PS_", 0) != 0) continue;
    if (std::find(std::begin(kKnown), std::end(kKnown), name) != std::end(kKnown)) continue;
    unknown += (unknown.empty() ? "" : ", ") + name;
  }
  return unknown;
}

}  // namespace penstock::pslite
