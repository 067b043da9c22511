// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the templates of this tree ask of libpenstock_ps.so: plain functions and plain structs, so
// that programs of any C++ standard and either libstdc++ ABI share one library. Not for programs.
//
// Functions that return a sentence return null when all went well; the sentence is the calling
// thread's until its next call. Threads: any, unless said otherwise.

#include <cstddef>
#include <cstdint>

extern "C" {

// Bytes with somebody who keeps them: `release(owner)` is called once, on any thread, when they are
// not needed any more. `release` null: nobody does, and the bytes stay by another promise.
struct penstock_ps_bytes {
  void* data;
  std::uint64_t size;
  void* owner;
  void (*release)(void* owner);
};

// One that came in.
struct penstock_ps_message {
  int app, customer, timestamp, sender, head;
  int push, pull;
  std::uint64_t value_count;  // of the values that the sender has or expects
  const char* body;           // of a simple message
  std::uint64_t body_size;
  penstock_ps_bytes keys, vals, lens;  // of data; the receiver takes over `owner`
};

// What a customer does with what comes in, on its receive thread, one call at a time.
struct penstock_ps_handlers {
  void* context;
  void (*simple_request)(void* context, const penstock_ps_message* message);
  void (*simple_response)(void* context, const penstock_ps_message* message);
  void (*data_request)(void* context, const penstock_ps_message* message);
};

// A push, a pull or both. `keys` and `lens` are uint64 and int32; vals are of the customer's value
// size. The functions are called with `context` on the receive thread, `done` last and once; of a
// request without keys, within the call.
struct penstock_ps_data_request {
  penstock_ps_bytes keys, vals, lens;  // taken over, also on failure
  std::uint64_t max_key;               // servers share the keys below it
  int command, push, pull, priority;
  int plain;      // done() calls nobody back: the functions may be called on any thread
  void* pull_to;  // where values go; null: where place_vals() says
  std::uint64_t pull_size;
  int pull_lens;  // place_lens() is wanted
  void* context;
  // Memory for that many bytes. `adopt`, if its size is not 0, may be kept instead (null returned).
  void* (*place_vals)(void* context, std::uint64_t size, penstock_ps_bytes* adopt);
  std::int32_t* (*place_lens)(void* context, std::uint64_t count);  // null: wrong count
  void (*done)(void* context, int answered);  // 0: it failed, nobody is called back
};

struct penstock_ps_data_response {
  int receiver, customer, timestamp, head, push, pull;
  penstock_ps_bytes keys, vals, lens;  // taken over, also on failure
};

// ---- environment: what Init() gave, before the process's own ----
const char* penstock_ps_environment_find(const char* name);
void penstock_ps_environment_set(const char* name, const char* value);

// ---- the process ----
// role: as Node::Role, −1 for DMLC_ROLE's. rank: −1 for any.
const char* penstock_ps_start(int customer, int role, int rank, int barrier);
const char* penstock_ps_finalize(int customer, int barrier);
void penstock_ps_on_exit(void (*run)(void* context), void* context);

// An office: kProcess, or one of several instances of a role in it.
enum {
  PENSTOCK_PS_PROCESS = -1,
  PENSTOCK_PS_SERVER = 0,
  PENSTOCK_PS_WORKER = 1,
  PENSTOCK_PS_SCHEDULER = 2
};
enum penstock_ps_fact {
  PENSTOCK_PS_IS_WORKER,
  PENSTOCK_PS_IS_SERVER,
  PENSTOCK_PS_IS_SCHEDULER,
  PENSTOCK_PS_WORKERS,  // processes
  PENSTOCK_PS_SERVERS,
  PENSTOCK_PS_WORKER_INSTANCES,
  PENSTOCK_PS_SERVER_INSTANCES,
  PENSTOCK_PS_GROUP_SIZE,
  PENSTOCK_PS_RANK,
  PENSTOCK_PS_NODE_ID,
  PENSTOCK_PS_IS_RECOVERY,
  PENSTOCK_PS_VERBOSE,
};
const char* penstock_ps_fact(int office, int instance, int fact, int* value);
const char* penstock_ps_barrier(int office, int instance, int customer, int group);
// How many there are; the first `capacity` of them are written.
std::size_t penstock_ps_dead_nodes(int* ids, std::size_t capacity);

// ---- customers ----
struct penstock_ps_customer;
// value_size: bytes of a value, 0 for one that takes no data.
const char* penstock_ps_customer_create(int office, int instance, int app, int customer,
                                        std::uint64_t value_size,
                                        const penstock_ps_handlers* handlers,
                                        penstock_ps_customer** created);
// Messages come in from here on; those that came before have waited.
const char* penstock_ps_customer_start(penstock_ps_customer* customer);
// Its thread has ended when this returns. Not from its own thread.
void penstock_ps_customer_destroy(penstock_ps_customer* customer);
const char* penstock_ps_wait(penstock_ps_customer* customer, int timestamp);
const char* penstock_ps_simple_request(penstock_ps_customer* customer, int head, const char* body,
                                       std::uint64_t body_size, int receiver, int* timestamp);
const char* penstock_ps_simple_response(penstock_ps_customer* customer, int receiver,
                                        int receiver_customer, int timestamp, int head,
                                        const char* body, std::uint64_t body_size);
const char* penstock_ps_ask(penstock_ps_customer* customer, const penstock_ps_data_request* request,
                            int* timestamp);
const char* penstock_ps_answer(penstock_ps_customer* customer,
                               const penstock_ps_data_response* response);
// Where the values that this worker pushes for this key land. They must live until the customer
// ends.
const char* penstock_ps_register_buffer(penstock_ps_customer* customer, int worker_rank,
                                        std::uint64_t key, void* data, std::uint64_t size);

// Ends the process with the sentence, unless the program wants exceptions: then it returns.
void penstock_ps_fatal(const char* sentence);

}  // extern "C"
