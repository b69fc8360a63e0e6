/* SPDX-License-Identifier: MIT */
/* The tables of states and optimizers are whole, and plans keep what they say. */
#include "plan/states.h"
#include "lib/unit.h"

static void test_states(void **state)
{
    for (int s = 0; s < STATES; s++) {
        assert_non_null(states[s].suffix);
        assert_int_equal(states[s].suffix[0], '.');
        for (int i = 0; i < s; i++)
            assert_string_not_equal(states[s].suffix, states[i].suffix);
        /* an f32 plan takes its weights from what is them beside bf16, and the other way round */
        if (states[s].beside_bf16)
            assert_true(states[s].from_weights);
    }
}

static void test_optimizers(void **state)
{
    bool needed[STATES] = {false};
    for (int o = 0; o < OPTIMIZERS; o++) {
        assert_non_null(optimizers[o].name);
        for (int i = 0; i < o; i++)
            assert_string_not_equal(optimizers[o].name, optimizers[i].name);
        for (int s = 0; s < STATES; s++) {
            needed[s] |= optimizers[o].needs[s];
            assert_int_equal(optimizer_keeps(o, s, false), optimizers[o].needs[s]);
            assert_int_equal(optimizer_keeps(o, s, true), optimizers[o].needs[s] && !states[s].beside_bf16);
        }
    }
    for (int s = 0; s < STATES; s++)
        assert_true(needed[s]);
}

/* What checkpoints of all versions hold. */
static void test_adamw(void **state)
{
    struct plan p = {.training = {.precision = PRECISION_BF16}};
    assert_string_equal(states[STATE_MASTER].suffix, ".master");
    assert_string_equal(states[STATE_EXP_AVG].suffix, ".exp_avg");
    assert_string_equal(states[STATE_EXP_AVG_SQ].suffix, ".exp_avg_sq");
    assert_true(plan_keeps(&p, STATE_MASTER) && plan_keeps(&p, STATE_EXP_AVG));
    assert_true(plan_keeps(&p, STATE_EXP_AVG_SQ));
    p.training.precision = PRECISION_F32;
    assert_false(plan_keeps(&p, STATE_MASTER));
    assert_true(plan_keeps(&p, STATE_EXP_AVG) && plan_keeps(&p, STATE_EXP_AVG_SQ));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_optimizers),
        cmocka_unit_test(test_adamw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
