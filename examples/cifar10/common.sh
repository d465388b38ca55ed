# What the two CIFAR-10 recipes share. Sourced, not run.

source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

# Sets IMAGE_OPTIONS: data and optimiser of all image trainings; TITLE. Uses DATA, OUT and DOWNLOAD.
start_image_recipe() {
    require_data pictures
    start_recipe
    IMAGE_OPTIONS=("$DATA" --user-dir vqnat_plugin --task image_vq --criterion vq_vae_loss
        --image-cache "$OUT/images" --optimizer adam --adam-betas '(0.9,0.99)' --clip-norm 1.0 --amp
        --lr-scheduler polynomial_decay --required-batch-size-multiple 1 --num-workers 0
        --no-epoch-checkpoints --log-format json --log-interval 100)
    [ -z "$DOWNLOAD" ] || IMAGE_OPTIONS+=(--download-data cifar10)
    TITLE=CIFAR-10
    # Lossy copies are smoother, and their figures lower.
    [ -z "$(find "$DATA/train" -name '*.jp*g' -print -quit 2>/dev/null)" ] || TITLE="CIFAR-10 (JPEG copy)"
}
