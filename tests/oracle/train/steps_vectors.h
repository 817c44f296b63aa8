/* steps_vectors.h - made by gen_steps.py with torch 2.15.0, transformers 5.23.0, peft 0.21.2. */
#pragma once
enum { STEPS_RANK = 2, STEPS_N = 10, STEPS_WARMUP = 2 };
static const double steps_alpha = 3.0, steps_lr = 0.02, steps_decay = 0.1, steps_clip = 0.3, steps_beta = 0.2;
static const double sft_losses[] = { 6.37477019, 6.37477019, 6.130818, 5.71368901, 5.40179875, 5.16275374, 4.97881376, 4.84600117, 4.76121952, 4.71873227 };
static const double sft_norms[] = { 0.560506469, 0.560506469, 0.55144688, 0.497497941, 0.487226698, 0.49655547, 0.501665777, 0.501123483, 0.498170862, 0.493786145 };
static const double dpo_losses[] = { 0.733267659, 0.733267659, 0.390981852, 0.11905289, 0.0468066361, 0.0254665884, 0.0175411889, 0.0139989798, 0.0123035646, 0.0115700185 };
static const double dpo_norms[] = { 0.971880651, 0.971880651, 0.592399702, 0.193028828, 0.0804268293, 0.0474638117, 0.0353713879, 0.0296168624, 0.026587927, 0.0251378001 };
