// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the environment says, or Environment::Init(), which goes first.

#include <map>
#include <optional>
#include <string>

#include "bindings/cpp/node.h"

namespace penstock::pslite {

enum class Part : std::uint8_t { kServer, kWorker, kScheduler, kJoint };  // as ps::Node::Role

// Thread: any. Text that find() gave stays until the process ends.
class Environment {
 public:
  const char* find(const std::string& name);
  void set(const std::string& name, std::string value);
  std::map<std::string, std::string> given();

 private:
  std::mutex mutex_;
  std::map<std::string, std::string> given_;
  std::map<std::string, std::vector<std::unique_ptr<std::string>>> shown_;
};

struct Settings {
  Part part = Part::kWorker;
  int workers = 0, servers = 0;  // processes
  int group = 1;                 // instances of a role in each
  std::string root;              // host:port of the scheduler
  std::string host;              // of this node
  std::string listen_port = "0";
  std::string transport = "auto";
  bool insecure = false;
  bool throws = false;
  int verbose = 0;
  int drop_percent = 0;
  bool resend = false;
  TimeNs resend_ns = kSecond;
  TimeNs detect_ns = 10 * kSecond;  // longer than the engine's: such programs starve their machines
  TimeNs start_ns = 600 * kSecond;

  std::uint32_t worker_slots() const { return static_cast<std::uint32_t>(workers * group); }
  std::uint32_t server_slots() const { return static_cast<std::uint32_t>(servers * group); }
};

// kInvalidArgument naming the variable and what it must be.
Result<Settings> read_settings(Environment& environment, std::optional<Part> part);
Result<Part> part_of_environment(Environment& environment);
int whole_or(Environment& environment, const char* name, int otherwise);

// One line for variables of ps-lite's families that nobody here knows; empty: none.
std::string unknown_variables(Environment& environment);

}  // namespace penstock::pslite
