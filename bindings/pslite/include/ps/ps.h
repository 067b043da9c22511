// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The API of ps-lite, in the dialects of 2015 to 2017, of 2018 and later, and of ByteDance's fork,
// on Penstock. See the README of bindings/pslite.

#include "ps/internal/threadsafe_queue.h"
#include "ps/kv_app.h"
#include "ps/simple_app.h"

namespace ps {

inline int NumWorkers() { return Postoffice::Get()->num_workers(); }
inline int NumServers() { return Postoffice::Get()->num_servers(); }
inline bool IsWorker() { return Postoffice::Get()->is_worker() != 0; }
inline bool IsServer() { return Postoffice::Get()->is_server() != 0; }
inline bool IsScheduler() { return Postoffice::Get()->is_scheduler() != 0; }
// Among the nodes of the same role, once Start() returned.
inline int MyRank() { return Postoffice::Get()->my_rank(); }

inline Node::Role GetRole(const std::string& role) {
  if (role == "worker") return Node::WORKER;
  if (role == "server") return Node::SERVER;
  if (role == "scheduler") return Node::SCHEDULER;
  if (role == "joint") return Node::JOINT;
  internal::Fail("the role \"" + role + "\" is none of worker, server, scheduler, joint");
  return Node::WORKER;
}

namespace internal {
static const int kRoleOfEnvironment = -1;
static const int kAnyRank = -1;
}  // namespace internal

// Until everybody is in. The roles and the rest come from DMLC_… in the environment.
inline void Start(int customer_id, const char* argv0 = nullptr) {
  (void)argv0;
  internal::Check(
      penstock_ps_start(customer_id, internal::kRoleOfEnvironment, internal::kAnyRank, 1));
}
inline void Start(const char* argv0 = nullptr) { Start(0, argv0); }
// The same without the barrier at its end.
inline void StartAsync(int customer_id, const char* argv0 = nullptr) {
  (void)argv0;
  internal::Check(
      penstock_ps_start(customer_id, internal::kRoleOfEnvironment, internal::kAnyRank, 0));
}
inline void StartAsync(const char* argv0 = nullptr) { StartAsync(0, argv0); }
// rank: −1 for any.
inline void StartPS(int customer_id, Node::Role role, int rank, bool do_barrier,
                    const char* argv0 = nullptr) {
  (void)argv0;
  internal::Check(penstock_ps_start(customer_id, role, rank, do_barrier ? 1 : 0));
}

// A barrier of everybody; then customer 0 takes the process out of the job and runs what
// RegisterExitCallback() was given. Start() may be called again.
inline void Finalize(int customer_id, bool do_barrier = true) {
  internal::Check(penstock_ps_finalize(customer_id, do_barrier ? 1 : 0));
}
inline void Finalize(bool do_barrier = true) { Finalize(0, do_barrier); }
inline void Finalize(int customer_id, Node::Role role, bool do_barrier = true) {
  (void)role;
  Finalize(customer_id, do_barrier);
}

namespace internal {
inline void RunExitCallback(void* context) {
  const std::unique_ptr<std::function<void()>> callback(
      static_cast<std::function<void()>*>(context));
  (*callback)();
}
}  // namespace internal

inline void RegisterExitCallback(const std::function<void()>& callback) {
  penstock_ps_on_exit(&internal::RunExitCallback, new std::function<void()>(callback));
}

}  // namespace ps
