/* command.h - the subcommands of the `reprise` program.
 *
 * Each command is one function in a file of its own, thin: parse arguments,
 * call the library, print. main.c holds the table. */
#ifndef RP_TOOLS_COMMAND_H
#define RP_TOOLS_COMMAND_H

/* Exit statuses of every command. */
enum {
    RP_EXIT_DONE = 0,
    RP_EXIT_FAILED = 1, /* it was tried and did not work */
    RP_EXIT_USAGE = 2,  /* a command line, configuration or input file that cannot be used */
};

/* argv[0] is the command's own name ("serve", "eval pairs"), then its arguments. */
typedef int rp_command(int argc, char **argv);

rp_command rp_command_bench;
rp_command rp_command_bench_embed;
rp_command rp_command_bench_policy;
rp_command rp_command_bench_search;
rp_command rp_command_bench_start;
rp_command rp_command_embed;
rp_command rp_command_bench_serve;
rp_command rp_command_client; /* lookup, store, ... reembed */
rp_command rp_command_demo;
rp_command rp_command_eval;
rp_command rp_command_eval_attack;
rp_command rp_command_eval_make_stream;
rp_command rp_command_eval_pairs;
rp_command rp_command_eval_record;
rp_command rp_command_eval_report;
rp_command rp_command_eval_stream;
rp_command rp_command_bench_tokenize;
rp_command rp_command_mock_llm;
rp_command rp_command_model;
rp_command rp_command_serve;
rp_command rp_command_tokenize;

extern const char rp_commit[]; /* of the source, as git describes it; "unknown" without */

#endif
