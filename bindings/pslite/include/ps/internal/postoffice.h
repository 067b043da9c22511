// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Postoffice: who is in the job, and barriers. Get() is the process; GetWorker() and GetServer()
// are one of its instances each (several with DMLC_GROUP_SIZE, both kinds in a joint process).

#include "ps/range.h"

namespace ps {

class Postoffice {
 public:
  static Postoffice* Get() {
    static Postoffice office(PENSTOCK_PS_PROCESS, 0);
    return &office;
  }
  static Postoffice* GetWorker(int instance = 0) { return Instance(PENSTOCK_PS_WORKER, instance); }
  static Postoffice* GetServer(int instance = 0) { return Instance(PENSTOCK_PS_SERVER, instance); }
  static Postoffice* GetScheduler() { return Instance(PENSTOCK_PS_SCHEDULER, 0); }

  // Until everybody in the groups has come here. Of Get(): counts for all instances of the process.
  void Barrier(int customer_id, int node_group) {
    internal::Check(penstock_ps_barrier(office_, instance_, customer_id, node_group));
  }
  // The same in the dialect of 2015 to 2017, where a process has one customer.
  void Barrier(int node_group) { Barrier(0, node_group); }

  // Of the servers, by rank. Stays valid until the job's number of servers changes.
  const std::vector<Range>& GetServerKeyRanges() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const uint64_t servers = static_cast<uint64_t>(num_server_instances());
    if (ranges_.size() == servers) return ranges_;
    ranges_.clear();
    const uint64_t each = servers != 0 ? uint64_t(kMaxKey) / servers : 0;
    for (uint64_t i = 0; i < servers; ++i) ranges_.push_back(Range(each * i, each * (i + 1)));
    return ranges_;
  }

  // Of a node, or of all in the groups.
  const std::vector<int>& GetNodeIDs(int node_group) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<int>& ids = ids_[node_group];
    ids.clear();
    if (node_group >= 8) {
      ids.push_back(node_group);
      return ids;
    }
    if ((node_group & kScheduler) != 0) ids.push_back(kScheduler);
    for (int i = 0; (node_group & kServerGroup) != 0 && i < num_server_instances(); ++i)
      ids.push_back(ServerRankToID(i));
    for (int i = 0; (node_group & kWorkerGroup) != 0 && i < num_worker_instances(); ++i)
      ids.push_back(WorkerRankToID(i));
    return ids;
  }

  // Who is known to be dead. A death is noticed by itself (PS_HEARTBEAT_TIMEOUT), so how long
  // somebody has been silent is not asked again.
  std::vector<int> GetDeadNodes(int timeout_s = 60) const {
    (void)timeout_s;
    std::vector<int> ids(penstock_ps_dead_nodes(nullptr, 0));
    const size_t found = penstock_ps_dead_nodes(ids.data(), ids.size());
    if (found < ids.size()) ids.resize(found);
    return ids;
  }

  int num_workers() const { return Fact(PENSTOCK_PS_WORKERS); }
  int num_servers() const { return Fact(PENSTOCK_PS_SERVERS); }
  int num_worker_instances() const { return Fact(PENSTOCK_PS_WORKER_INSTANCES); }
  int num_server_instances() const { return Fact(PENSTOCK_PS_SERVER_INSTANCES); }
  int group_size() const { return Fact(PENSTOCK_PS_GROUP_SIZE); }
  int my_rank() const { return Fact(PENSTOCK_PS_RANK); }
  int my_node_id() const { return Fact(PENSTOCK_PS_NODE_ID); }
  int is_worker() const { return Fact(PENSTOCK_PS_IS_WORKER); }
  int is_server() const { return Fact(PENSTOCK_PS_IS_SERVER); }
  int is_scheduler() const { return Fact(PENSTOCK_PS_IS_SCHEDULER); }
  bool is_recovery() const { return Fact(PENSTOCK_PS_IS_RECOVERY) != 0; }
  int verbose() const { return Fact(PENSTOCK_PS_VERBOSE); }
  std::string role_str() const {
    return is_worker() ? "worker" : is_server() ? "server" : "scheduler";
  }

  static int WorkerRankToID(int rank) { return rank * 2 + 9; }
  static int ServerRankToID(int rank) { return rank * 2 + 8; }
  static int IDtoRank(int id) { return id < 8 ? 0 : (id - 8) / 2; }

 private:
  Postoffice(int office, int instance) : office_(office), instance_(instance) {}
  static Postoffice* Instance(int office, int instance) {
    static std::mutex mutex;
    static std::map<std::pair<int, int>, std::unique_ptr<Postoffice>> offices;
    const std::lock_guard<std::mutex> lock(mutex);
    std::unique_ptr<Postoffice>& found = offices[std::make_pair(office, instance)];
    if (found == nullptr) found.reset(new Postoffice(office, instance));
    return found.get();
  }
  int Fact(int fact) const {
    int value = 0;
    internal::Check(penstock_ps_fact(office_, instance_, fact, &value));
    return value;
  }

  const int office_;
  const int instance_;
  std::mutex mutex_;  // of what follows
  std::vector<Range> ranges_;
  std::map<int, std::vector<int>> ids_;
};

}  // namespace ps

#ifndef PS_VLOG
#define PS_VLOG(level) LOG_IF(INFO, (level) <= ::ps::Postoffice::Get()->verbose())
#endif
